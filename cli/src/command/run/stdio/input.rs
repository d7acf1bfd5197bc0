//! Stdin: read when the agent takes more, never waited for otherwise.

use std::io;
use std::os::fd::RawFd;

use pipes_protocol::descriptor::Descriptor as Standing;

use super::descriptor::{self, Descriptor, Direction};

/// Once so much has flowed, stdin's pipe is made larger: fewer, larger reads.
const GROWS_AFTER: u64 = 1 << 20;
/// To so much, which is one chunk.
const GROWN: i32 = 256 << 10;

/// The CLI's stdin.
pub struct Input {
    descriptor: Option<Descriptor>,
    standing: Standing,
    is_grown: bool,
}

impl Input {
    /// No input at all.
    pub fn none() -> Input {
        Input::unread(Standing::Pipe)
    }

    fn unread(standing: Standing) -> Input {
        Input {
            descriptor: None,
            standing,
            is_grown: false,
        }
    }

    /// The process's stdin. One that is closed, or surely empty, as /dev/null, counts as none.
    pub fn stdin() -> Input {
        Input::of(libc::STDIN_FILENO)
    }

    fn of(fd: RawFd) -> Input {
        match descriptor::standing(fd, Direction::Read) {
            Standing::Closed => return Input::none(),
            Standing::Pipe if is_empty(fd) => return Input::none(),
            Standing::Pipe => {}
            standing => return Input::unread(standing),
        }
        Input {
            descriptor: Descriptor::open(fd, Direction::Read).ok(),
            standing: Standing::Pipe,
            is_grown: false,
        }
    }

    /// What the first stage is to find.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether there may be more.
    pub fn is_open(&self) -> bool {
        self.descriptor.is_some()
    }

    /// It has ended.
    pub fn close(&mut self) {
        self.descriptor = None;
    }

    /// So much was read in all.
    pub fn flowed(&mut self, bytes: u64) {
        if bytes >= GROWS_AFTER && !self.is_grown {
            self.is_grown = true;
            self.descriptor
                .iter()
                .for_each(|descriptor| descriptor.grow(GROWN));
        }
    }

    /// Reads what is there, `None` when nothing is; 0 is the end.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(descriptor) = &self.descriptor else {
            return Ok(None);
        };
        match descriptor.read(buffer) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads once there is something; 0 is the end. Dropped before, it has read nothing.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // Tried before it is waited for: a FIFO that nobody has open for writing gives no event.
        if let Some(count) = self.try_read(buffer)? {
            return Ok(count);
        }
        let Some(watched) = self.descriptor.as_ref().and_then(Descriptor::watched) else {
            return std::future::pending().await;
        };
        loop {
            let mut guard = watched.readable().await?;
            if let Some(count) = self.try_read(buffer)? {
                return Ok(count);
            }
            guard.clear_ready();
        }
    }
}

fn is_empty(fd: RawFd) -> bool {
    let Some(status) = descriptor::status(fd) else {
        return true;
    };
    match status.st_mode & libc::S_IFMT {
        // Major 1, minor 3 is /dev/null (Linux's devices.txt).
        libc::S_IFCHR => status.st_rdev == libc::makedev(1, 3),
        // Files of /proc say 0 and are not empty.
        libc::S_IFREG => {
            status.st_size > 0 && {
                // SAFETY: asks for the position, changes nothing.
                unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) >= status.st_size }
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Seek, SeekFrom, Write, pipe};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use tokio::time::timeout;

    fn is_non_blocking(fd: &impl AsRawFd) -> bool {
        // SAFETY: the descriptor is open.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) & libc::O_NONBLOCK != 0 }
    }

    #[tokio::test]
    async fn a_pipe_is_read_as_it_comes_and_stays_blocking_for_others() {
        let (reader, mut writer) = pipe().unwrap();
        let input = Input::of(reader.as_raw_fd());
        let mut buffer = [0; 8];
        assert_eq!(input.try_read(&mut buffer).unwrap(), None);
        assert!(
            timeout(Duration::from_millis(20), input.read(&mut buffer))
                .await
                .is_err()
        );
        writer.write_all(b"abc").unwrap();
        assert_eq!(input.read(&mut buffer).await.unwrap(), 3);
        assert!(!is_non_blocking(&reader));
        drop(writer);
        assert_eq!(input.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_file_is_read_from_where_it_stands() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdef").unwrap();
        assert!(!Input::of(file.as_raw_fd()).is_open(), "it stands at its end");
        file.seek(SeekFrom::Start(4)).unwrap();
        let input = Input::of(file.as_raw_fd());
        let mut buffer = [0; 8];
        assert_eq!(input.read(&mut buffer).await.unwrap(), 2);
        assert_eq!(input.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_empty_device_is_no_input() {
        assert!(!Input::of(File::open("/dev/null").unwrap().as_raw_fd()).is_open());
        let zero = File::open("/dev/zero").unwrap();
        assert_eq!(Input::of(zero.as_raw_fd()).read(&mut [1; 4]).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_an_error_and_no_end() {
        let memory = File::open("/proc/self/mem").unwrap();
        assert!(Input::of(memory.as_raw_fd()).read(&mut [0; 4]).await.is_err());
    }

    #[tokio::test]
    async fn what_is_not_for_reading_is_left_to_the_stage() {
        let (_reader, writer) = pipe().unwrap();
        let null = File::options().write(true).open("/dev/null").unwrap();
        let folder = File::open("/").unwrap();
        for (fd, standing) in [
            (writer.as_raw_fd(), Standing::Wrong),
            (null.as_raw_fd(), Standing::Wrong),
            (folder.as_raw_fd(), Standing::Folder),
        ] {
            let input = Input::of(fd);
            assert_eq!((input.is_open(), input.standing()), (false, standing));
        }
    }
}
