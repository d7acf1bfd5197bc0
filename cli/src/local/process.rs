//! One agent's process: found by its pid file, started detached, stopped in order.
//!
//! A pid alone says nothing: after a restart of the machine it may be anybody's. It is our agent's when its command line
//! names our configuration; signals go through a pidfd taken before that was looked at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::layout::Member;
use crate::error::Error;

/// Of the log's end, as much is read to find its last line.
const LOG_TAIL: u64 = 4_096;

/// A process that is surely this member's agent, until it ends.
pub struct Running {
    pidfd: OwnedFd,
}

impl Running {
    /// The member's agent, if it runs.
    pub fn find(member: &Member) -> Option<Running> {
        let pid: libc::pid_t = fs::read_to_string(member.folder.join("agent.pid"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        // SAFETY: takes a pid and flags, gives a descriptor or -1.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let pidfd = i32::try_from(pidfd).ok().filter(|pidfd| *pidfd >= 0)?;
        // SAFETY: the descriptor is new and nobody else's.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        is_agent_of(&command, &member.config()).then_some(Running { pidfd })
    }

    /// Sends a signal; one that ended meanwhile needs none.
    pub fn signal(&self, signal: i32) {
        let (info, flags) = (std::ptr::null::<libc::siginfo_t>(), 0);
        // SAFETY: the descriptor is open; without an info the kernel makes one.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                info,
                flags,
            )
        };
    }

    /// Whether it ends within this time.
    pub fn ends_within(&self, limit: Duration) -> bool {
        let mut poll = libc::pollfd {
            fd: self.pidfd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let timeout = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one descriptor, as said.
        unsafe { libc::poll(&mut poll, 1, timeout) > 0 }
    }
}

/// Arguments in /proc end with a zero each.
fn is_agent_of(command: &[u8], config: &Path) -> bool {
    command
        .split(|byte| *byte == 0)
        .any(|argument| argument == config.as_os_str().as_bytes())
}

/// The agent's executable: beside our own, else on PATH.
pub fn executable() -> Result<PathBuf, Error> {
    const NAME: &str = "pipes-agent";
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(NAME)));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&on_path).map(|folder| folder.join(NAME));
    beside
        .into_iter()
        .chain(on_path)
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::Local("pipes-agent is neither beside pipes nor on PATH; install both together".into())
        })
}

/// Starts the member's agent in a session of its own; its log is appended to.
///
/// Linux shares the processor out among sessions (sched_autogroup of sched(7)): two hundred callers in one of theirs
/// leave the agents their part.
pub fn spawn(executable: &Path, member: &Member) -> Result<Child, Error> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(member.log());
    let log = log.map_err(|error| Error::write(member.log(), error))?;
    let errors = log
        .try_clone()
        .map_err(|error| Error::write(member.log(), error))?;
    // Of a former life: whoever waits for it must not take it for this one's.
    let _ = fs::remove_file(member.folder.join("ready"));
    let mut command = Command::new(executable);
    command.arg("--config").arg(member.config()).current_dir("/");
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    // SAFETY: between fork and exec only setsid is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(())
            }
        });
    }
    let child = command.spawn();
    let child =
        child.map_err(|error| Error::Local(format!("cannot start {}: {error}", executable.display())))?;
    let pid_file = member.folder.join("agent.pid");
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600);
    let written = opened
        .open(&pid_file)
        .and_then(|mut file| file.write_all(format!("{}\n", child.id()).as_bytes()));
    written.map_err(|error| Error::write(pid_file, error))?;
    Ok(child)
}

/// The last line of a log that says anything.
pub fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL))).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.strip_prefix("error: ").unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn member(folder: &Path) -> Member {
        Member {
            name: "n1".into(),
            folder: folder.into(),
            address: Ipv4Addr::LOCALHOST.into(),
            wamp: 0,
        }
    }

    #[test]
    fn a_pid_that_is_another_programs_by_now_is_not_our_agent() {
        let folder = tempfile::tempdir().unwrap();
        let member = member(folder.path());
        assert!(Running::find(&member).is_none());
        fs::write(folder.path().join("agent.pid"), std::process::id().to_string()).unwrap();
        assert!(Running::find(&member).is_none());
    }

    #[test]
    fn an_agent_is_known_by_the_configuration_it_was_given() {
        let config = Path::new("/s/local/n1/agent.toml");
        assert!(is_agent_of(
            b"/bin/pipes-agent\0--config\0/s/local/n1/agent.toml\0",
            config
        ));
        assert!(!is_agent_of(
            b"/bin/pipes-agent\0--config\0/s/local/n11/agent.toml\0",
            config
        ));
        assert!(!is_agent_of(b"", config));
    }

    #[test]
    fn the_last_line_that_says_anything_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("agent.log");
        assert_eq!(last_line(&log), None);
        fs::write(&log, "starting\nerror: port 7071 is taken\n\n").unwrap();
        assert_eq!(last_line(&log).as_deref(), Some("port 7071 is taken"));
    }
}
