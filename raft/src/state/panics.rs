//! sled's panics as errors.
//!
//! sled panics on some damage, wherever it reads. Here that is an error like any other: what it said goes into the
//! error, and nothing to stderr.

use std::any::Any;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Once;

use crate::Error;

/// How sled names its own threads, which end quietly too: it notes that itself, and refuses all that follows.
const THREADS: &str = "sled-io-";

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Does what sled may panic at; `dir` is the state's.
pub(super) fn guarded<T>(dir: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    static HOOK: Once = Once::new();
    HOOK.call_once(hold_back);
    let before = IS_GUARDED.replace(true);
    let done = std::panic::catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(before);
    let panicked = |panic: Box<dyn Any + Send>| {
        let said = said(&*panic);
        Error::Corrupt(format!("{}: sled cannot read it: {said}", dir.display()))
    };
    done.unwrap_or_else(|panic| Err(panicked(panic)))
}

/// From now on, panics that somebody waits for are not written to stderr.
fn hold_back() {
    let write = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_sleds = std::thread::current()
            .name()
            .is_some_and(|name| name.starts_with(THREADS));
        if !is_sleds && !IS_GUARDED.get() {
            write(panic);
        }
    }));
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it panicked")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_panic_of_sled_is_an_error_with_its_words_and_nothing_on_stderr() {
        static WRITTEN: AtomicUsize = AtomicUsize::new(0);
        let write = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_mine = panic
                .payload_as_str()
                .is_some_and(|said| said.starts_with("cannot find"));
            WRITTEN.fetch_add(usize::from(is_mine), Ordering::Relaxed);
            write(panic);
        }));
        let pid = 7;
        let error = guarded::<()>(Path::new("raft/state.1"), || panic!("cannot find pid {pid}"));
        let expected = "raft/state.1: sled cannot read it: cannot find pid 7";
        assert_eq!(error, Err(Error::Corrupt(expected.into())));
        assert_eq!(WRITTEN.load(Ordering::Relaxed), 0);
    }
}
