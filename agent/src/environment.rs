//! The agent's own environment: of what its starter had, only what an agent needs.
//!
//! The kernel shows the environment that a process was started with to every process of the same user, for as long as it
//! lives, and stages of the executor `process` are of that user. So the agent starts itself once more without the rest.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What stays.
const KEPT: [&str; 13] = [
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "RUST_BACKTRACE",
    // How a dynamic build finds its libraries.
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    // The service manager's.
    "NOTIFY_SOCKET",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDS",
    "LISTEN_PID",
];

fn is_kept(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    // A context's path and an agent's address are the command line's.
    let is_own = name.starts_with("PIPES_") && !matches!(name, "PIPES_CONTEXT" | "PIPES_AGENT");
    is_own || name.starts_with("LC_") || KEPT.contains(&name)
}

/// Starts this program anew, in this very process, if its environment has more than it needs. Returns where it has not, or
/// where that cannot be done.
pub fn clear() -> io::Result<()> {
    let all: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    if all.iter().all(|(name, _)| is_kept(name)) {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    // By its path: a process is called as the file that it was started from.
    let mut program = Command::new(std::env::current_exe()?);
    if let Some(name) = arguments.next() {
        program.arg0(name);
    }
    let kept = all.into_iter().filter(|(name, _)| is_kept(name));
    Err(program.args(arguments).env_clear().envs(kept).exec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_who_started_the_agent_are_not_kept() {
        for (name, kept) in [
            ("PATH", true),
            ("LC_ALL", true),
            ("PIPES_LOG", true),
            ("AWS_SECRET_ACCESS_KEY", false),
            ("SSH_AUTH_SOCK", false),
            ("PIPES_CONTEXT", false),
        ] {
            assert_eq!(is_kept(OsStr::new(name)), kept, "{name}");
        }
    }
}
