//! Starting a stage's executable.
//!
//! The child is made as `vfork` makes it: it runs in the shim's memory, on a stack of its own, while the shim waits, until it
//! has become the executable or failed. So a start costs 0.1 ms however large the shim is, and a failure is known with its
//! errno at once. Between the two only system calls are made, on what was prepared before.
//!
//! Where the stage has a cgroup the child is born in it (CLONE_INTO_CGROUP): it can make nothing outside of it, and
//! moving it there afterwards costs a third more (measured 130 against 90 us on Linux 6.18).
//!
//! A stage gets: a session of its own, death with the shim, a higher oom_score_adj than the shim's (so that the kernel ends the stage
//! and not what tells a break from an end), its folder, umask 022, default signals, the usual 1024 descriptors, and nothing
//! open but 0, 1 and 2, of these none that its caller has closed.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use anyhow::Context;

mod clone;
mod exec;
pub mod missing;
pub mod stdio;

/// How much likelier than the shim a stage is ended by the kernel when memory runs out.
const OOM_ABOVE_SHIM: i32 = 100;

/// The most that oom_score_adj takes.
const OOM_MAX: i32 = 1000;

/// What is to be started, and how.
pub struct Program<'a> {
    /// The executable.
    pub path: &'a CStr,
    /// Its arguments, `argv[0]` first.
    pub args: &'a [CString],
    /// Its environment.
    pub env: &'a [CString],
    /// Its working folder.
    pub folder: &'a CStr,
    /// Its descriptors 0, 1 and 2; `None` is closed.
    pub stdio: [Option<BorrowedFd<'a>>; 3],
    /// The folder of its cgroup.
    pub group: Option<BorrowedFd<'a>>,
}

/// Why a start failed. Only [`io::ErrorKind::ExecutableFileBusy`] is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process could be made.
    #[error("no process can be made: {0}")]
    Clone(#[source] io::Error),
    /// What it is to start with could not be set up.
    #[error("{0}: {1}")]
    Setup(&'static str, #[source] io::Error),
    /// The kernel refused the executable.
    #[error("{0}")]
    Exec(#[source] io::Error),
}

impl Error {
    /// Whether somebody still had the executable open for writing: over as soon as that one executes something else.
    pub fn is_busy(&self) -> bool {
        matches!(self, Error::Exec(error) if error.kind() == io::ErrorKind::ExecutableFileBusy)
    }
}

/// Starts programs. Belongs to the main thread: children die with the thread that made them.
pub struct Spawner {
    stack: clone::Stack,
    oom: Option<Oom>,
}

impl Spawner {
    /// To be made before the shim closes its /proc entries to others, and with them to itself.
    pub fn new() -> anyhow::Result<Spawner> {
        keep_low_descriptors_taken().context("cannot open /dev/null")?;
        Ok(Spawner {
            stack: clone::Stack::new()?,
            oom: Oom::open(),
        })
    }

    /// Starts a program; its process.
    pub fn spawn(&mut self, program: &Program<'_>) -> Result<libc::pid_t, Error> {
        let args = pointers(program.args);
        let env = pointers(program.env);
        let mut plan = exec::Plan {
            path: program.path.as_ptr(),
            args: args.as_ptr(),
            env: env.as_ptr(),
            folder: program.folder.as_ptr(),
            stdio: program.stdio.map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd())),
            // SAFETY: asks for a number.
            parent: unsafe { libc::getpid() },
            files: usual_files(),
            group: None,
            step: exec::Step::Clone,
            errno: 0,
        };
        if let Some(oom) = &mut self.oom {
            oom.set(oom.stage);
        }
        let pid = clone::clone(&mut self.stack, &mut plan, program.group);
        if let Some(oom) = &mut self.oom {
            oom.set(oom.shim);
        }
        let pid = pid.map_err(Error::Clone)?;
        if plan.errno == 0 {
            return Ok(pid);
        }
        // SAFETY: waits for a child of ours that has ended or is about to.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        let error = io::Error::from_raw_os_error(plan.errno);
        Err(match plan.step {
            exec::Step::Exec => Error::Exec(error),
            step => Error::Setup(step.name(), error),
        })
    }
}

/// The shim's own score, raised around each start, so that the child inherits it: a process that is not dumpable cannot
/// open the file again, nor can the child.
struct Oom {
    file: File,
    shim: i32,
    stage: i32,
}

impl Oom {
    fn open() -> Option<Oom> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .open("/proc/self/oom_score_adj")
            .ok()?;
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let shim: i32 = text.trim().parse().ok()?;
        Some(Oom {
            file,
            shim,
            stage: (shim + OOM_ABOVE_SHIM).min(OOM_MAX),
        })
    }

    /// A failure leaves the order of the two to chance and is no reason to start nothing.
    fn set(&mut self, score: i32) {
        let _ = self
            .file
            .rewind()
            .and_then(|()| self.file.write_all(score.to_string().as_bytes()));
    }
}

/// A path for `execve` and `chdir`.
pub fn c_path(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Descriptors 0 to 2 must be taken, or a pipe's end lands there and is overwritten when a child's are put in place.
fn keep_low_descriptors_taken() -> io::Result<()> {
    loop {
        let file = File::options().read(true).write(true).open("/dev/null")?;
        if file.as_fd().as_raw_fd() > 2 {
            return Ok(());
        }
        std::mem::forget(file);
    }
}

/// The usual limit on open files, which the agent has raised for itself: some programs close all they may have.
fn usual_files() -> libc::rlimit {
    const USUAL: libc::rlim_t = 1024;
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: writes the limit it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } < 0 {
        return libc::rlimit {
            rlim_cur: USUAL,
            rlim_max: USUAL,
        };
    }
    libc::rlimit {
        rlim_cur: USUAL.min(limit.rlim_max),
        rlim_max: limit.rlim_max,
    }
}
