//! Stdout and stderr: written at once where they take it, else later; never blocking, and their reader's end is seen.

use std::io;
use std::os::fd::RawFd;

use pipes_protocol::descriptor::Descriptor as Standing;
use tokio::io::Interest;

use super::descriptor::{self, Descriptor, Direction};

/// Once so much has flowed, a pipe is made larger: fewer, larger writes.
const GROWS_AFTER: u64 = 1 << 20;
/// To so much, which is one chunk.
const GROWN: i32 = 256 << 10;

/// One of the two.
pub struct Output {
    /// `None` once nothing is written any more.
    descriptor: Option<Descriptor>,
    standing: Standing,
    is_gone: bool,
    is_gone_told: bool,
    has_lost: bool,
    /// Not taken yet, from `begin` on.
    waiting: Vec<u8>,
    begin: usize,
    written: u64,
    is_grown: bool,
}

impl Output {
    /// Takes stdout or stderr.
    pub fn open(fd: RawFd) -> Output {
        let descriptor = Descriptor::open(fd, Direction::Write).ok();
        Output {
            is_gone: descriptor.is_none(),
            is_gone_told: false,
            has_lost: false,
            standing: descriptor::standing(fd, Direction::Write),
            descriptor,
            waiting: Vec::new(),
            begin: 0,
            written: 0,
            is_grown: false,
        }
    }

    /// Whether nobody reads it any more.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// The same, true once: for whoever tells it on.
    pub fn is_newly_gone(&mut self) -> bool {
        self.is_gone && !std::mem::replace(&mut self.is_gone_told, true)
    }

    /// Whether bytes came that nobody was there to read.
    pub fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// What the stages are to find.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    fn reader_is_gone(&mut self) {
        self.descriptor = None;
        self.is_gone = true;
    }

    /// Bytes that wait to be written.
    pub fn waiting(&self) -> usize {
        self.waiting.len() - self.begin
    }

    /// Writes what is taken at once and keeps the rest. Gives back how many bytes left, into the void included.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut left = 0;
        if self.waiting() == 0 {
            while left < bytes.len() {
                match self.attempt(&bytes[left..])? {
                    Some(count) => left += count,
                    None => break,
                }
            }
        }
        self.waiting.extend_from_slice(&bytes[left..]);
        Ok(left)
    }

    /// Waits until waiting bytes could be written, or the reader is gone; gives back how many bytes left. With nothing
    /// to write it waits for the reader's end alone. Dropped before, it has done nothing.
    pub async fn wait(&mut self) -> io::Result<usize> {
        if self.waiting() == 0 {
            self.reader_gone().await?;
            self.reader_is_gone();
            return Ok(0);
        }
        loop {
            let before = self.waiting();
            if self.write_waiting()? {
                return Ok(before - self.waiting());
            }
            let Some(watched) = self.descriptor.as_ref().and_then(Descriptor::watched) else {
                return std::future::pending().await;
            };
            // Cleared before the next attempt, so that what happens from here on is told anew.
            watched.writable().await?.clear_ready();
        }
    }

    /// Writes of what waits as much as is taken; false when that is nothing.
    fn write_waiting(&mut self) -> io::Result<bool> {
        let waiting = std::mem::take(&mut self.waiting);
        let attempt = self.attempt(&waiting[self.begin..]);
        self.waiting = waiting;
        let Some(count) = attempt? else { return Ok(false) };
        self.begin += count;
        if self.waiting() == 0 {
            self.waiting.clear();
            self.begin = 0;
        }
        Ok(true)
    }

    /// Writes no more after a failure: what a stage cannot say on a full disk stops no pipe.
    pub fn forgive(&mut self, written: io::Result<usize>) {
        if written.is_err() {
            self.descriptor = None;
            self.waiting = Vec::new();
            self.begin = 0;
        }
    }

    async fn reader_gone(&self) -> io::Result<()> {
        let Some(watched) = self.descriptor.as_ref().and_then(Descriptor::watched) else {
            return std::future::pending().await;
        };
        // epoll tells errors unasked; a pipe's write end has one when its last reader is gone.
        watched.ready(Interest::ERROR).await.map(drop)
    }

    /// One write: how much left, `None` when nothing is taken now.
    fn attempt(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let Some(descriptor) = &self.descriptor else {
            self.has_lost |= !bytes.is_empty();
            return Ok(Some(bytes.len()));
        };
        match descriptor.write(bytes) {
            Ok(count) => {
                self.written += count as u64;
                if self.written >= GROWS_AFTER && !self.is_grown {
                    self.is_grown = true;
                    descriptor.grow(GROWN);
                }
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if is_without_reader(&error) => {
                self.reader_is_gone();
                self.has_lost = true;
                Ok(Some(bytes.len()))
            }
            Err(error) => Err(error),
        }
    }
}

/// A socket whose reader left something unread tells it so first.
fn is_without_reader(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, PipeWriter, Read, pipe};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use tokio::time::timeout;

    fn output() -> (PipeReader, PipeWriter, Output) {
        let (reader, writer) = pipe().unwrap();
        let output = Output::open(writer.as_raw_fd());
        (reader, writer, output)
    }

    #[tokio::test]
    async fn a_full_pipe_takes_the_rest_later_and_in_order() {
        let (mut reader, writer, mut output) = output();
        let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        let mut left = output.write(&bytes[..200_000]).unwrap();
        assert!(left < 200_000 && output.waiting() == 200_000 - left);
        left += output.write(&bytes[200_000..]).unwrap();
        assert!(
            timeout(Duration::from_millis(20), output.wait()).await.is_err(),
            "it is full"
        );
        let reading = std::thread::spawn(move || {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).map(|_| got)
        });
        while output.waiting() > 0 {
            left += output.wait().await.unwrap();
        }
        drop((output, writer));
        assert_eq!(left, bytes.len());
        assert!(reading.join().unwrap().unwrap() == bytes);
    }

    #[tokio::test]
    async fn a_readers_end_is_seen_without_writing() {
        let (reader, _writer, mut output) = output();
        assert!(timeout(Duration::from_millis(20), output.wait()).await.is_err());
        drop(reader);
        assert_eq!(output.wait().await.unwrap(), 0);
        assert!(output.is_gone() && !output.has_lost(), "nothing was on its way");
        assert!(output.is_newly_gone() && !output.is_newly_gone());
        assert_eq!(
            output.write(b"abc").unwrap(),
            3,
            "what nobody reads counts as taken"
        );
    }

    #[tokio::test]
    async fn a_reader_that_went_before_is_seen_at_once() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let begun = std::time::Instant::now();
        // A child of another test, between its fork and its exec, may have the reader for a moment.
        let mut output = loop {
            let output = Output::open(writer.as_raw_fd());
            if output.is_gone() || begun.elapsed().as_secs() > 5 {
                break output;
            }
            std::thread::yield_now();
        };
        assert!(output.is_gone() && !output.has_lost());
        assert_eq!(output.write(b"abc").unwrap(), 3);
        assert!(output.has_lost());
    }

    #[tokio::test]
    async fn a_sockets_reader_that_went_before_is_seen_at_once() {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(reader);
        assert!(Output::open(writer.as_raw_fd()).is_gone());
    }

    #[tokio::test]
    async fn a_reader_that_goes_while_bytes_wait_lets_them_go() {
        let (reader, _writer, mut output) = output();
        let left = output.write(&[7; 200_000]).unwrap();
        drop(reader);
        assert_eq!(output.wait().await.unwrap(), 200_000 - left);
        assert!(output.is_gone() && output.waiting() == 0);
    }

    #[tokio::test]
    async fn a_full_device_is_an_error() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut output = Output::open(full.as_raw_fd());
        assert_eq!(output.standing(), Standing::Full);
        assert!(output.write(b"abc").is_err());
    }

    #[tokio::test]
    async fn what_is_not_for_writing_is_left_as_it_is() {
        let (mut reader, mut writer) = pipe().unwrap();
        let mut output = Output::open(reader.as_raw_fd());
        assert_eq!((output.standing(), output.is_gone()), (Standing::Wrong, false));
        assert!(output.write(b"abc").is_err());
        std::io::Write::write_all(&mut writer, b"x").unwrap();
        drop(writer);
        let mut got = String::new();
        reader.read_to_string(&mut got).unwrap();
        assert_eq!(got, "x");
    }
}
