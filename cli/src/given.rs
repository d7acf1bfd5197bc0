//! Files that a user names: opened without waiting for anybody, and read up to a limit.
//!
//! | it is | it is read |
//! |---|---|
//! | a file | to its end |
//! | a FIFO or a pipe | to its end; one that nobody writes into for 10 s is an error, a writer that is silent is waited for |
//! | a terminal, another device | to its end, which not each has |
//!
//! Always: (1) opening waits for nobody; (2) who reads says how much at most.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::error::Error;

/// How long a FIFO may have nobody who writes: whoever starts a writer beside takes less.
const WRITER_WITHIN: Duration = Duration::from_secs(10);

/// A file that is open.
#[derive(Debug)]
pub struct Given {
    file: File,
    metadata: Metadata,
}

impl Given {
    /// Opens it.
    pub fn open(path: &Path) -> io::Result<Given> {
        let mut options = OpenOptions::new();
        // A FIFO would wait for a writer, and a terminal could become this process's own.
        options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = options.open(path)?;
        let metadata = file.metadata()?;
        Ok(Given { file, metadata })
    }

    /// What it is.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The open file itself.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Waits until there is something to read or its writers have gone; what of that is so, if anything in time.
    fn wait(&self, limit: Option<Duration>) -> io::Result<libc::c_short> {
        let mut polled = libc::pollfd {
            fd: self.file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // The limits here are seconds.
        let limit = limit.map_or(-1, |limit| limit.as_millis() as libc::c_int);
        loop {
            // SAFETY: it is one descriptor, which is open, and lives as long as the call.
            if unsafe { libc::poll(&raw mut polled, 1, limit) } >= 0 {
                return Ok(polled.revents);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl Read for Given {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut has_waited = false;
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => drop(self.wait(None)?),
                // A FIFO that nobody has opened to write reads as one whose writers have gone.
                Ok(0) if self.metadata.file_type().is_fifo() => {
                    if self.wait(Some(Duration::ZERO))? & libc::POLLHUP != 0 || buffer.is_empty() {
                        return Ok(0);
                    }
                    if has_waited {
                        let why = format!("nobody has written into it for {} s", WRITER_WITHIN.as_secs());
                        return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                    }
                    self.wait(Some(WRITER_WITHIN))?;
                    has_waited = true;
                }
                read => return read,
            }
        }
    }
}

/// The text of a file that has at most `max` bytes.
pub fn text(path: &Path, max: u64) -> Result<String, Error> {
    let failed = |error| Error::read(path, error);
    let mut bytes = Vec::new();
    let given = Given::open(path).map_err(failed)?;
    // One byte more tells that it is longer.
    given.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(Error::Local(format!(
            "{} is longer than the {max} bytes that are read of such a file",
            path.display()
        )));
    }
    String::from_utf8(bytes).map_err(|_| Error::Local(format!("{} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;
    use std::time::Instant;

    fn fifo(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("fifo");
        let text = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }, 0);
        path
    }

    #[test]
    fn a_file_without_an_end_is_read_to_the_limit() {
        let said = text(Path::new("/dev/zero"), 1 << 20).unwrap_err().to_string();
        assert_eq!(
            said,
            "/dev/zero is longer than the 1048576 bytes that are read of such a file"
        );
    }

    #[test]
    fn a_fifo_is_read_to_its_end_once_somebody_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        let writing = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut writer = OpenOptions::new().write(true).open(path).unwrap();
                for part in ["a | ", "b\n"] {
                    writer.write_all(part.as_bytes()).unwrap();
                }
            }
        });
        assert_eq!(text(&path, 100).unwrap(), "a | b\n");
        writing.join().unwrap();
    }

    #[test]
    fn a_fifo_that_nobody_writes_into_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let said = text(&fifo(folder.path()), 100).unwrap_err().to_string();
        assert!(said.ends_with("nobody has written into it for 10 s"), "{said}");
        assert!(begun.elapsed() < WRITER_WITHIN * 2);
    }
}
