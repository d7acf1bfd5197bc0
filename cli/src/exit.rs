//! From what happened to the status the process ends with.
//!
//! | outcome | `run`, `query`, `result` | other commands |
//! |---|---|---|
//! | a user's mistake in the arguments | 125 | 2 |
//! | no agent, a lost server, anything of Pipes itself | 125 | 1 |
//! | unknown service | 127 | 1 |
//! | a stage cannot be started | 126 | 1 |
//! | the run ended | the run's own | |
//! | the CLI's own Ctrl-C ended the run, its stdout's reader gone | dies of that signal | |
//!
//! What a run's own status is (124 after its timeout, 128+n after signal n, ...) the agent decides: its `outcome.rs`.

use std::process::ExitCode;

use crate::error::Error;
use crate::inherited;
use pipes_protocol::uris;

/// A failed command.
pub const FAILED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// `run`: Pipes itself failed, wrong usage and a refused line included.
pub const RUN_FAILED: u8 = 125;
/// `run`: a stage cannot be started.
pub const RUN_CANNOT_START: u8 = 126;
/// `run`: unknown service.
pub const RUN_UNKNOWN: u8 = 127;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With this status.
    Status(u8),
    /// Of this signal, so that a shell sees what it would see without Pipes.
    Signal(i32),
}

/// All is well.
pub const SUCCESS: Outcome = Outcome::Status(0);

impl Outcome {
    /// Of a run's status, which is at most 255.
    pub fn of_run(status: i32) -> Outcome {
        Outcome::Status(u8::try_from(status).unwrap_or(RUN_FAILED))
    }

    /// Ends the process, or tells `main` how to.
    pub fn end(self) -> ExitCode {
        match self {
            Outcome::Status(status) => ExitCode::from(status),
            Outcome::Signal(signal) => die_of(signal),
        }
    }
}

/// Of an error of any command but `run`.
pub fn of_error(error: &Error) -> Outcome {
    let is_usage = matches!(error, Error::Usage(_)) || error.uri() == Some(uris::error::USAGE);
    Outcome::Status(if is_usage { USAGE } else { FAILED })
}

/// Of an error of `run`, before or instead of a run.
pub fn of_run_error(error: &Error) -> Outcome {
    Outcome::Status(match error.uri() {
        Some(uris::error::UNKNOWN_SERVICE) => RUN_UNKNOWN,
        Some(uris::error::CANNOT_START) => RUN_CANNOT_START,
        _ => RUN_FAILED,
    })
}

/// Ends the process by `signal`'s default action. Returns only where the signal was ignored from the start, and stays so.
fn die_of(signal: i32) -> ExitCode {
    let status = ExitCode::from(128u8.saturating_add(u8::try_from(signal).unwrap_or(0)));
    if signal == libc::SIGPIPE && inherited::was_pipe_ignored() {
        return status;
    }
    // SAFETY: resets a disposition, unblocks and raises; nothing of ours runs between that cares.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::raise(signal);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(uri: &str) -> Error {
        Error::Refused {
            uri: uri.into(),
            message: String::new(),
            arguments: Vec::new(),
        }
    }

    #[test]
    fn every_error_has_its_status() {
        let lost = || Error::Lost {
            agent: String::new(),
            why: String::new(),
        };
        let table = [
            (Error::Usage(String::new()), RUN_FAILED, USAGE),
            (Error::Local(String::new()), RUN_FAILED, FAILED),
            (
                Error::Unreachable {
                    context: String::new(),
                    tried: String::new(),
                    hint: String::new(),
                },
                RUN_FAILED,
                FAILED,
            ),
            (
                Error::KeyRefused {
                    agent: String::new(),
                    context: String::new(),
                    hint: "",
                },
                RUN_FAILED,
                FAILED,
            ),
            (lost(), RUN_FAILED, FAILED),
            (refused(uris::error::SYNTAX), RUN_FAILED, FAILED),
            (refused(uris::error::USAGE), RUN_FAILED, USAGE),
            (refused("pipes.error.unavailable"), RUN_FAILED, FAILED),
            (refused(uris::error::NOT_FOUND), RUN_FAILED, FAILED),
            (refused(uris::error::UNKNOWN_SERVICE), RUN_UNKNOWN, FAILED),
            (refused(uris::error::CANNOT_START), RUN_CANNOT_START, FAILED),
        ];
        for (error, of_run, of_others) in table {
            assert_eq!(of_run_error(&error), Outcome::Status(of_run), "{error:?}");
            assert_eq!(of_error(&error), Outcome::Status(of_others), "{error:?}");
        }
    }

    #[test]
    fn a_runs_status_is_the_processs() {
        assert_eq!(Outcome::of_run(141), Outcome::Status(141));
        assert_eq!(Outcome::of_run(999), Outcome::Status(RUN_FAILED));
    }
}
