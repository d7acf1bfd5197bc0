//! What the child does between its birth and `execve`: system calls alone, in memory that is its parent's.

use libc::{c_char, c_int};

/// Everything the child needs, and what it leaves when it fails.
pub struct Plan {
    pub path: *const c_char,
    pub args: *const *const c_char,
    pub env: *const *const c_char,
    pub folder: *const c_char,
    /// What becomes 0, 1 and 2; below 0: nothing.
    pub stdio: [c_int; 3],
    pub parent: libc::pid_t,
    pub files: libc::rlimit,
    /// The folder of a cgroup that the child must enter itself.
    pub group: Option<c_int>,
    pub step: Step,
    pub errno: c_int,
}

/// How far the child came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Clone,
    Group,
    Parent,
    Session,
    Descriptors,
    Folder,
    Exec,
}

impl Step {
    /// What failed, for people.
    pub fn name(self) -> &'static str {
        match self {
            Step::Clone => "no process can be made",
            Step::Group => "its cgroup cannot be entered",
            Step::Parent => "the shim is gone",
            Step::Session => "it cannot have a session of its own",
            Step::Descriptors => "its pipes cannot be put in place",
            Step::Folder => "its working folder cannot be entered",
            Step::Exec => "it cannot be executed",
        }
    }
}

/// Becomes the program, or notes why not and ends.
///
/// # Safety
/// `plan` must be valid, its pointers too, and the caller must run in a process (`vfork`, or a clone that shares memory) whose
/// parent waits until it has ended.
pub unsafe extern "C" fn become_program(plan: *mut Plan) -> c_int {
    // SAFETY: the caller's promise; the parent waits, so that nobody else looks at the plan.
    unsafe {
        if !prepare(&mut *plan) {
            (*plan).errno = *libc::__errno_location();
        } else {
            (*plan).step = Step::Exec;
            libc::execve((*plan).path, (*plan).args, (*plan).env);
            (*plan).errno = *libc::__errno_location();
        }
        libc::_exit(127)
    }
}

/// Sets up all that surrounds the program; false with errno set when something failed.
///
/// # Safety
/// As for [`become_program`].
unsafe fn prepare(plan: &mut Plan) -> bool {
    // SAFETY: the caller's promise; every call works on this process alone and on the plan's memory.
    unsafe {
        if let Some(group) = plan.group {
            plan.step = Step::Group;
            if !enter(group) {
                return false;
            }
        }
        plan.step = Step::Parent;
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
            return false;
        }
        // A parent that died before that call sends no signal.
        if libc::getppid() != plan.parent {
            *libc::__errno_location() = libc::ESRCH;
            return false;
        }
        plan.step = Step::Session;
        if libc::setsid() < 0 {
            return false;
        }
        plan.step = Step::Descriptors;
        for (number, fd) in plan.stdio.iter().enumerate() {
            if *fd < 0 {
                libc::close(number as c_int);
            } else if libc::dup2(*fd, number as c_int) < 0 {
                return false;
            }
        }
        // All of ours are closed on exec anyway; this is for what the shim may have inherited.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        libc::setrlimit(libc::RLIMIT_NOFILE, &plan.files);
        libc::umask(0o022);
        plan.step = Step::Folder;
        if libc::chdir(plan.folder) < 0 {
            return false;
        }
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        true
    }
}

/// Moves this process into a cgroup, given its folder.
///
/// # Safety
/// As for [`become_program`].
unsafe fn enter(folder: c_int) -> bool {
    // SAFETY: the strings are constants.
    unsafe {
        let file = libc::openat(folder, c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        file >= 0 && libc::write(file, c"0".as_ptr().cast(), 1) == 1
    }
}
