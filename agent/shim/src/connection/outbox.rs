//! The sending half: what is queued, and one chunk of a pipe.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use pipes_flow::{CHUNK_MAX, Read, Source};
use pipes_wamp::message::{Message, Payload};
use pipes_wamp::transport::rawsocket::{self, FrameKind, HEAD};

use super::{BEGIN, PAGE, aligned_buffer};

/// Queued bytes beyond which the connection counts as lost. Everything queued answers something, and all of that is
/// bounded by credit, so that only an agent that floods us and reads nothing comes here.
const QUEUED_MAX: usize = 8 * 1024 * 1024;

/// Room before a chunk's bytes for its frame's and message's heads: a procedure's name of 255 bytes fits twice.
const HEAD_ROOM: usize = PAGE;

/// Sends frames.
pub struct Outbox {
    stream: UnixStream,
    queued: Vec<u8>,
    sent: usize,
    chunk: Box<[u8]>,
    /// Where in `chunk` a pipe's bytes begin, their head ending there.
    base: usize,
    /// What of `chunk` is still to be sent; it goes before what is queued.
    chunk_start: usize,
    chunk_end: usize,
    head: Vec<u8>,
    lost: bool,
}

impl Outbox {
    /// Sends through a stream that does not block.
    pub fn new(stream: UnixStream) -> Outbox {
        let (chunk, base) = aligned_buffer(HEAD_ROOM + CHUNK_MAX);
        debug_assert!(base < PAGE && BEGIN < PAGE);
        Outbox {
            stream,
            queued: Vec::new(),
            sent: 0,
            chunk,
            base: base + HEAD_ROOM,
            chunk_start: 0,
            chunk_end: 0,
            head: Vec::new(),
            lost: false,
        }
    }

    /// Queues one message.
    pub fn queue(&mut self, message: &Message<'_>) {
        if !self.lost {
            rawsocket::frame(&mut self.queued, |out| message.encode(out));
            self.check();
        }
    }

    /// Queues the answer to a PING.
    pub fn pong(&mut self, payload: &[u8]) {
        if !self.lost {
            self.queued
                .extend_from_slice(&rawsocket::frame_head(FrameKind::Pong, payload.len()));
            self.queued.extend_from_slice(payload);
            self.check();
        }
    }

    /// Reads once from `source` and sends what that gave in the message that `head` makes: its payload is the
    /// beginning of arguments whose last one is the bytes, which follow. To be called only when nothing waits.
    pub fn send_read(
        &mut self,
        source: &mut Source,
        head: impl FnOnce(&mut Vec<u8>, usize),
    ) -> io::Result<Read> {
        debug_assert!(self.is_idle());
        let read = source.read(&mut self.chunk[self.base..self.base + CHUNK_MAX])?;
        if let Read::Bytes(count) = read {
            self.head.clear();
            self.head.extend_from_slice(&[0; HEAD]);
            head(&mut self.head, count);
            let length = self.head.len() - HEAD + count;
            self.head[..HEAD].copy_from_slice(&rawsocket::frame_head(FrameKind::Message, length));
            self.chunk_start = self.base - self.head.len();
            self.chunk_end = self.base + count;
            self.chunk[self.chunk_start..self.base].copy_from_slice(&self.head);
            self.flush();
        }
        Ok(read)
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) {
        while !self.lost && self.chunk_start < self.chunk_end {
            match self.send(&self.chunk[self.chunk_start..self.chunk_end]) {
                Some(count) => self.chunk_start += count,
                None => return,
            }
        }
        while !self.lost && self.sent < self.queued.len() {
            match self.send(&self.queued[self.sent..]) {
                Some(count) => self.sent += count,
                None => return,
            }
        }
        self.queued.clear();
        self.sent = 0;
    }

    /// Whether nothing waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.chunk_start == self.chunk_end && self.queued.is_empty()
    }

    /// Whether the connection failed, or was given up.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Gives the connection up: nothing is sent any more.
    pub fn give_up(&mut self) {
        self.lost = true;
        self.chunk_start = self.chunk_end;
        self.queued = Vec::new();
        self.sent = 0;
    }

    /// The descriptor to watch.
    pub fn watch(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Sends once; `None` when the socket takes nothing now or the connection has failed.
    fn send(&self, bytes: &[u8]) -> Option<usize> {
        // SAFETY: the bytes are readable over their whole length.
        let count = unsafe {
            libc::send(
                self.watch(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
            )
        };
        // A failure shows as the end of the receiving half, which alone decides.
        usize::try_from(count).ok()
    }

    fn check(&mut self) {
        if self.queued.len() - self.sent > QUEUED_MAX {
            self.give_up();
        }
    }
}

/// The arguments of a chunk without its bytes.
pub fn bytes_follow(buffer: &mut Vec<u8>, count: usize) -> Payload<'_> {
    buffer.clear();
    pipes_wamp::payload::write_bytes_arg_head(buffer, count);
    Payload {
        parts: 1,
        bytes: buffer,
    }
}
