//! The receiving half: bytes in, whole frames out.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use pipes_flow::CHUNK_MAX;
use pipes_wamp::transport::rawsocket::{self, FrameKind, HEAD, MESSAGE_MAX};

use crate::connection::buffer::{PAGE, aligned};

/// Room for one chunk of a pipe, its head and some small messages. A larger message gets a buffer of its own size,
/// given back when it was handled.
const ROOM: usize = CHUNK_MAX + 64 * 1024;

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A WAMP message.
    Message(&'a [u8]),
    /// To be answered with the same payload.
    Ping(&'a [u8]),
}

/// Reads frames.
pub struct Inbox {
    stream: UnixStream,
    buffer: Box<[u8]>,
    /// Where an empty buffer begins.
    base: usize,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Reads from a stream that does not block.
    pub fn new(stream: UnixStream) -> Inbox {
        let (buffer, base) = aligned(ROOM);
        Inbox {
            stream,
            buffer,
            base,
            start: base,
            end: base,
        }
    }

    /// Reads once. False when the connection has ended.
    pub fn fill(&mut self) -> io::Result<bool> {
        match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.end += count;
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// The next whole frame; `None` when more must be read first.
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, pipes_wamp::Error> {
        loop {
            let waiting = &self.buffer[self.start..self.end];
            let Some(head) = waiting.first_chunk::<HEAD>() else {
                self.make_room(HEAD);
                return Ok(None);
            };
            let (kind, length) = rawsocket::read_frame_head(*head, MESSAGE_MAX)?;
            if waiting.len() < HEAD + length {
                self.make_room(HEAD + length);
                return Ok(None);
            }
            let begin = self.start + HEAD;
            self.start = begin + length;
            let body = begin..self.start;
            match kind {
                FrameKind::Message => return Ok(Some(Frame::Message(&self.buffer[body]))),
                FrameKind::Ping => return Ok(Some(Frame::Ping(&self.buffer[body]))),
                FrameKind::Pong => {}
            }
        }
    }

    /// Sees to it that a frame of `length` bytes fits behind `start`.
    fn make_room(&mut self, length: usize) {
        let held = self.start..self.end;
        if held.is_empty() && length <= ROOM {
            if self.buffer.len() > ROOM + PAGE {
                (self.buffer, self.base) = aligned(ROOM);
            }
            (self.start, self.end) = (self.base, self.base);
        } else if self.start + length > self.buffer.len() {
            let count = held.len();
            if self.base + length > self.buffer.len() {
                let (mut buffer, base) = aligned(length);
                buffer[base..base + count].copy_from_slice(&self.buffer[held]);
                (self.buffer, self.base) = (buffer, base);
            } else {
                self.buffer.copy_within(held, self.base);
            }
            (self.start, self.end) = (self.base, self.base + count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
        [&rawsocket::frame_head(kind, body.len())[..], body].concat()
    }

    /// Sends `bytes` in pieces of `step` and collects the messages' lengths.
    fn lengths(bytes: &[u8], step: usize) -> Vec<usize> {
        let (mut far, near) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut inbox = Inbox::new(near);
        let mut seen = Vec::new();
        for piece in bytes.chunks(step) {
            far.write_all(piece).unwrap();
            let mut left = piece.len();
            while left > 0 {
                let before = inbox.end - inbox.start;
                assert!(inbox.fill().unwrap());
                left -= inbox.end - inbox.start - before;
                while let Some(Frame::Message(body)) = inbox.next().unwrap() {
                    assert!(body.iter().all(|byte| *byte == 7));
                    seen.push(body.len());
                }
            }
        }
        seen
    }

    #[test]
    fn frames_come_out_whole_however_they_come_in() {
        let sizes = [0, 1, 300, ROOM, 5, CHUNK_MAX, ROOM + PAGE, 2 * ROOM, 3];
        let bytes: Vec<u8> = sizes
            .iter()
            .flat_map(|size| frame(FrameKind::Message, &vec![7; *size]))
            .collect();
        for step in [1021, 65_536, 100_000] {
            assert_eq!(lengths(&bytes, step), sizes);
        }
    }

    #[test]
    fn a_ping_is_seen_and_a_pong_is_not() {
        let (mut far, near) = UnixStream::pair().unwrap();
        far.write_all(&[frame(FrameKind::Pong, b"a"), frame(FrameKind::Ping, b"b")].concat())
            .unwrap();
        let mut inbox = Inbox::new(near);
        assert!(inbox.fill().unwrap());
        assert_eq!(inbox.next().unwrap(), Some(Frame::Ping(b"b")));
        assert_eq!(inbox.next().unwrap(), None);
    }

    #[test]
    fn a_closed_connection_is_told() {
        let (far, near) = UnixStream::pair().unwrap();
        drop(far);
        assert!(!Inbox::new(near).fill().unwrap());
    }
}
