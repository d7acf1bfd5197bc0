//! `pipes`: Unix pipes over a cluster of servers, from the command line.
//!
//! | part | what it knows |
//! |---|---|
//! | `args` | the command line, and mistakes in it in one sentence |
//! | `command/` | one file a command: its help, its arguments, what it does; a folder for `run`, which carries bytes, and `build` |
//! | `local/` | clusters on this machine's loopback |
//! | `upload/` | a file's bytes, and sending them |
//! | `client`, `context` | a session with any agent; which cluster, with which key |
//! | `output/` | tables, JSON, progress and errors, as they are shown |
//! | `object/` | what listings show: a file a noun, with its fields |
//! | `last` | the user's last job, where a command is given none |
//! | `given` | files that a user names: read up to a limit, and without waiting for nobody |
//! | `error`, `exit` | what went wrong, and the status that says so |
//! | `escape` | text of strangers, as a terminal may have it |
//! | `inherited` | what the process was given and Rust hides |

mod answer;
mod args;
mod client;
mod command;
mod context;
mod error;
mod escape;
mod exit;
mod given;
mod inherited;
mod last;
mod liveness;
mod local;
mod object;
mod output;
mod secured;
mod upload;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let outcome = match args::parse(&arguments) {
        Ok(command) => command.run(),
        Err(outcome) => outcome,
    };
    outcome.end()
}
