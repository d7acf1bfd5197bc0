//! Work that may wait for the disk: on threads of their own, since all invocations share the main one.
//!
//! The main thread is woken by a descriptor when something is done, and never waits for it. What cannot be begun now is
//! begun later, or fails: nothing is done in the main thread for want of another.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

/// Room for a walk through folders, or a copy whose buffer lies elsewhere.
const STACK: usize = 256 * 1024;

/// Errands under way at once; each has a thread.
pub const ERRANDS_MAX: usize = 64;
/// When an errand that could not be begun is tried again.
pub const AGAIN: Duration = Duration::from_millis(100);

/// Begins errands, and tells when one is done.
pub struct Background(Arc<OwnedFd>);

/// Work under way.
pub struct Errand<T> {
    result: Receiver<T>,
    watched: Arc<Watched>,
}

/// What who waits and who works say to each other meanwhile.
#[derive(Default)]
pub struct Watched {
    is_unwanted: AtomicBool,
    progress: AtomicU64,
}

impl Watched {
    /// Whether nobody wants it any more.
    pub fn is_unwanted(&self) -> bool {
        self.is_unwanted.load(Ordering::Relaxed)
    }

    /// It came further by so much.
    pub fn add(&self, progress: u64) {
        self.progress.fetch_add(progress, Ordering::Relaxed);
    }
}

/// Wakes the main thread whatever becomes of the work.
struct Bell(Arc<OwnedFd>);

impl Drop for Bell {
    fn drop(&mut self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: eight octets are read from the array. A counter that is full wakes all the same.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

impl Background {
    /// With nothing under way.
    pub fn new() -> io::Result<Background> {
        // SAFETY: takes two numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made.
        Ok(Background(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// The descriptor to watch.
    pub fn watch(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Takes note that something is done.
    pub fn seen(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: eight octets are written to the array.
        unsafe { libc::read(self.watch(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// Begins an errand; `None` where so many are under way, or no thread can be had.
    pub fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Watched) -> T + Send + 'static,
    ) -> Option<Errand<T>> {
        // The bell is one of those that hold the descriptor; this is another.
        if Arc::strong_count(&self.0) > ERRANDS_MAX {
            return None;
        }
        let (done, result) = sync_channel(1);
        let watched = Arc::new(Watched::default());
        let (on_thread, bell) = (watched.clone(), Bell(self.0.clone()));
        let perform = move || {
            // Rings last, also by a panic: whoever is woken sees how it ended.
            let _bell = bell;
            // Whoever does not wait any more need not be told.
            let _ = { done }.send(work(&on_thread));
        };
        Builder::new().stack_size(STACK).spawn(perform).ok()?;
        Some(Errand { result, watched })
    }
}

impl<T> Errand<T> {
    /// Its result, once; `Some(None)` if it panicked.
    pub fn done(&self) -> Option<Option<T>> {
        match self.result.try_recv() {
            Ok(result) => Some(Some(result)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(None),
        }
    }

    /// Says that nobody wants it any more: it is done soon.
    pub fn stop(&self) {
        self.watched.is_unwanted.store(true, Ordering::Relaxed);
    }

    /// How far it has come.
    pub fn progress(&self) -> u64 {
        self.watched.progress.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_rung(background: &Background, patience: i32) -> bool {
        let mut poll = libc::pollfd {
            fd: background.watch(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the kernel writes `revents` of this one entry.
        unsafe { libc::poll(&mut poll, 1, patience) == 1 }
    }

    #[test]
    fn whoever_waits_is_woken_when_the_result_is_there() {
        let background = Background::new().unwrap();
        let (go, wait) = sync_channel::<()>(0);
        let errand = background.begin(move |watched| {
            watched.add(7);
            wait.recv().unwrap();
            watched.is_unwanted()
        });
        let errand = errand.unwrap();
        assert!(!is_rung(&background, 0) && errand.done().is_none());
        errand.stop();
        go.send(()).unwrap();
        assert!(is_rung(&background, 10_000));
        background.seen();
        assert_eq!((errand.done(), errand.progress()), (Some(Some(true)), 7));
        assert!(!is_rung(&background, 0));
    }

    #[test]
    fn a_panic_is_an_end_too() {
        let background = Background::new().unwrap();
        let errand = background.begin(|_| -> () { panic!("on purpose") }).unwrap();
        assert!(is_rung(&background, 10_000));
        assert_eq!(errand.done(), Some(None));
    }

    #[test]
    fn so_many_errands_are_under_way_and_no_more() {
        let background = Background::new().unwrap();
        let (go, wait) = sync_channel::<()>(0);
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let begin = || {
            let wait = wait.clone();
            background.begin(move |_| wait.lock().unwrap().recv().is_ok())
        };
        let errands: Vec<_> = (0..ERRANDS_MAX).map(|_| begin().unwrap()).collect();
        assert!(begin().is_none());
        drop(go);
        let is_done = |errand: &Errand<bool>| errand.done().is_some();
        while !errands.iter().any(is_done) {
            assert!(is_rung(&background, 10_000));
        }
        assert!(begin().is_some());
    }
}
