//! How the process that the shim started has ended.

use rmpv::Value;

use crate::report;

/// An exit, as the coordinator is told of it.
pub struct Exit {
    status: i32,
    signal: Option<i32>,
    at_ms: u64,
}

impl Exit {
    /// Just now, with this status of waitpid(2).
    pub fn of(wait_status: i32) -> Exit {
        let (status, signal) = if libc::WIFSIGNALED(wait_status) {
            let signal = libc::WTERMSIG(wait_status);
            (128 + signal, Some(signal))
        } else {
            (libc::WEXITSTATUS(wait_status), None)
        };
        Exit {
            status,
            signal,
            at_ms: report::now_ms(),
        }
    }

    /// The event's arguments.
    pub fn to_args(&self) -> Vec<Value> {
        let signal = self.signal.map_or(Value::Nil, Value::from);
        vec!["exited".into(), self.status.into(), signal, self.at_ms.into()]
    }
}
