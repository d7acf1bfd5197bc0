//! Signals of the shim itself, and what keeps others out of its memory.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use pipes_protocol::stage::SIGNAL_MAX;

/// Signals taken one after another from a descriptor instead of by handlers.
const TAKEN: [libc::c_int; 5] = [
    libc::SIGCHLD,
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
];

/// The descriptor from which signals are taken.
pub struct Signals(File);

/// What signals said.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// A child changed its state.
    pub child: bool,
    /// The shim is asked to stop.
    pub stop: bool,
}

impl Signals {
    /// Sets every signal to its default, whatever the shim inherited, and takes its own from a descriptor. SIGPIPE
    /// stays ignored: a pipe without a reader is an answer here.
    pub fn set_up() -> io::Result<Signals> {
        for number in 1..=SIGNAL_MAX {
            set_to_default(number);
        }
        // SAFETY: sets a disposition.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` makes the set valid before anything else reads it; the mask is this thread's, the only one.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for number in TAKEN {
                libc::sigaddset(set.as_mut_ptr(), number);
            }
            libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
            libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made.
        Ok(Signals(unsafe { File::from_raw_fd(fd) }))
    }

    /// The descriptor to watch.
    pub fn watch(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Takes all that came.
    pub fn take(&mut self) -> Seen {
        const ONE: usize = size_of::<libc::signalfd_siginfo>();
        let (mut seen, mut buffer) = (Seen::default(), [0; 8 * ONE]);
        while let Ok(count) = self.0.read(&mut buffer) {
            for info in buffer[..count].chunks_exact(ONE) {
                // The number is the first field.
                let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                if number == libc::SIGCHLD as u32 {
                    seen.child = true
                } else {
                    seen.stop = true
                }
            }
            if count < buffer.len() {
                break;
            }
        }
        seen
    }
}

/// Not by the C library, which refuses two numbers that it uses itself and that a parent may have left ignored.
fn set_to_default(number: libc::c_int) {
    /// `struct sigaction` as the kernel has it, on every processor no larger: all zero is the default.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_SIZE: usize = 8;
    let nothing = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel reads `DEFAULT` and writes nothing; it refuses what cannot be set.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            DEFAULT.as_ptr(),
            nothing,
            MASK_SIZE,
        )
    };
}

/// Keeps stages out of the shim's memory and environment, which hold its token, and makes it the parent of what
/// they leave behind.
pub fn harden() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)?;
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

fn prctl(what: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: both settings take one number and touch no memory of ours.
    let result = unsafe { libc::prctl(what, value, none, none, none) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
