//! Signals to the processes of a stage.

/// Whether it stops processes or lets them go on: such a one is not followed by another that lets them go on.
pub fn is_stop(number: i32) -> bool {
    matches!(
        number,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU | libc::SIGCONT
    )
}

/// Sends a signal to a process, or to a group by its number below zero.
pub fn send(pid: libc::pid_t, number: i32) {
    // SAFETY: sends a signal. To a process that is gone it does nothing; the shim's own number and 0 are never passed.
    unsafe { libc::kill(pid, number) };
}
