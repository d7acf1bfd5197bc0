//! The agent's log where it is a file: begun anew once it is long, the one before it kept.
//!
//! Whoever starts the agent opens the file and hands it over as standard error; a service manager hands over a socket
//! instead, which is none of this module's. The shims write to what their agent had at their start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// A log has at most so many bytes, and so has the one before it.
const LOG_MAX: u64 = 10 << 20;

/// Standard error, and where it lies.
pub struct LogFile {
    path: Option<PathBuf>,
    max: u64,
    written: Mutex<u64>,
}

impl LogFile {
    /// That of this process.
    pub fn of_stderr() -> LogFile {
        let path = file_of(libc::STDERR_FILENO);
        let length = path.as_ref().and_then(|path| Some(path.metadata().ok()?.len()));
        LogFile {
            path,
            max: LOG_MAX,
            written: Mutex::new(length.unwrap_or(0)),
        }
    }

    fn write(&self, line: &[u8]) -> io::Result<usize> {
        let count = io::stderr().write(line)?;
        let Some(path) = &self.path else { return Ok(count) };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        *written += count as u64;
        if *written > self.max {
            // Where it cannot be done now, as on a full disk, it is tried again after as much more.
            *written = 0;
            if let Ok(next) = begin_anew(path) {
                take_over(&next);
            }
        }
        Ok(count)
    }
}

/// The file that a descriptor is, by its path, if it still has that.
fn file_of(fd: RawFd) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    let (there, open) = (
        path.metadata().ok()?,
        fs::metadata(format!("/proc/self/fd/{fd}")).ok()?,
    );
    let is_it = there.is_file() && (there.dev(), there.ino()) == (open.dev(), open.ino());
    is_it.then_some(path)
}

/// Puts the log aside, in place of the one before, and makes an empty one.
fn begin_anew(path: &Path) -> io::Result<File> {
    let mut before = path.to_owned().into_os_string();
    before.push(".1");
    fs::rename(path, before)?;
    let mut options = OpenOptions::new();
    options.append(true).create_new(true).mode(0o600).open(path)
}

/// Makes it standard error and standard output.
fn take_over(next: &File) {
    for fd in [libc::STDERR_FILENO, libc::STDOUT_FILENO] {
        // SAFETY: both are open descriptors of this process, and dup2 takes nothing else.
        unsafe { libc::dup2(next.as_raw_fd(), fd) };
    }
}

/// Writes a line.
pub struct Line<'l>(&'l LogFile);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'l> MakeWriter<'l> for LogFile {
    type Writer = Line<'l>;

    fn make_writer(&'l self) -> Line<'l> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_put_aside_and_the_next_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        let before = folder.path().join("agent.log.1");
        for text in ["first", "second"] {
            fs::write(&path, text).unwrap();
            let mut next = begin_anew(&path).unwrap();
            next.write_all(b"further").unwrap();
            assert_eq!(fs::read_to_string(&before).unwrap(), text);
            assert_eq!(fs::read_to_string(&path).unwrap(), "further");
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_is_known_by_its_descriptor_as_long_as_it_has_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = File::create(&path).unwrap();
        assert_eq!(file_of(file.as_raw_fd()), Some(path.clone()));
        fs::write(folder.path().join("other"), "").unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        assert_eq!(file_of(file.as_raw_fd()), None);
    }
}
