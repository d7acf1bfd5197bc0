//! How the process that the shim started has ended.

use std::time::SystemTime;

use pipes_protocol::stage::Exit;

/// What the coordinator is told of an exit just now, with this status of waitpid(2).
pub fn exit(wait_status: i32) -> Exit {
    let (status, signal) = if libc::WIFSIGNALED(wait_status) {
        let signal = libc::WTERMSIG(wait_status);
        (128 + signal, Some(signal))
    } else {
        (libc::WEXITSTATUS(wait_status), None)
    };
    Exit {
        status,
        signal,
        at: SystemTime::now(),
    }
}
