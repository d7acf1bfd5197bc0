//! One client's connection: its socket, what was read and not yet understood, what waits to be written.
//!
//! ```text
//! octets (4) -> handshake (HELLO .. WELCOME) -> joined -> closing (what waits is written, nothing more is read)
//! ```
//!
//! A read goes into the shard's scratch buffer and is understood there; only the beginning of a message whose end has not
//! come is copied here. A message over [`LARGE`] is read into a buffer of its own, reserved whole against the shard's
//! budget when its head is known. So a connection that has nothing half read holds no buffer.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use pipes_wamp::router::{Handshake, Key, SessionKey};
use pipes_wamp::transport::rawsocket::{self, HEAD, MESSAGE_MAX};

use crate::clients::authentication::{Asked, Door};
use crate::clients::out_queue::OutQueue;
use crate::flow_control::window::{REST, UNREAD};

/// A frame over this is read into a buffer of its own: the usual chunk of 64 KiB with its head is not.
pub const LARGE: usize = (64 << 10) + 512;

/// The longest message before WELCOME: a HELLO is names and a key.
pub const MESSAGE_MAX_BEFORE_WELCOME: usize = 64 << 10;

/// Names a connection.
pub type ConnectionKey = Key<Connection>;

/// A client's socket.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket, or one half of an internal session's pair.
    Unix(UnixStream),
}

/// How far it is.
pub enum Phase {
    /// The four octets of RawSocket are awaited.
    Octets,
    /// HELLO or AUTHENTICATE is awaited.
    Handshake(Handshake, Option<Asked>),
    /// It has a session.
    Joined(SessionKey),
    /// What waits is written, then it is closed.
    Closing,
}

/// A large message on its way.
pub struct Large {
    /// At least as long as the message.
    pub buffer: Vec<u8>,
    /// The message's length: what is reserved.
    pub length: usize,
    /// What of it is there.
    pub filled: usize,
    /// Since when.
    pub since: Instant,
}

/// What was read and not yet understood.
#[derive(Default)]
pub struct Input {
    bytes: Vec<u8>,
    begin: usize,
}

impl Input {
    /// What is there.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }

    /// Puts `rest` in place of what was there; gives the room back when it is empty.
    pub fn replace(&mut self, rest: &[u8]) {
        self.begin = 0;
        if rest.is_empty() {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
            self.bytes.extend_from_slice(rest);
        }
    }

    /// Takes the buffer out, to be looked at while the connection is changed.
    pub fn take(&mut self) -> Input {
        std::mem::take(self)
    }

    /// Puts a buffer back of which `used` more bytes were understood.
    pub fn put_back(&mut self, mut input: Input, used: usize) {
        input.begin += used;
        if input.begin < input.bytes.len() {
            *self = input;
        }
    }
}

/// A client's connection.
pub struct Connection {
    /// Its socket.
    pub stream: Stream,
    /// How it came in.
    pub door: Door,
    /// How far it is.
    pub phase: Phase,
    /// Read and not understood.
    pub input: Input,
    /// A large message on its way.
    pub large: Option<Large>,
    /// The budget for large messages is used up: it waits for its turn.
    pub waits_for_budget: bool,
    /// What waits to be written.
    pub out: OutQueue,
    /// The largest message the client takes.
    pub message_max: usize,
    /// The socket may have something to read.
    pub is_readable: bool,
    /// The socket takes bytes.
    pub is_writable: bool,
    /// The other side writes no more: read until the end.
    pub is_read_closed: bool,
    /// The other side reads no more: what is for it is dropped, and it ends when nothing of it is left to be read,
    /// or soon.
    pub is_deaf: bool,
    /// It is in the list of those that have something to do.
    pub is_queued: bool,
    /// It is in the list of those that have something to write.
    pub is_dirty: bool,
    /// Flows without window that come from it.
    pub blocked_flows: usize,
    /// What else it sent and has not been taken (`flow`, *rest*).
    pub rest: usize,
    /// Answers that it does not take (`flow`, *unread*).
    pub unread: usize,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(stream: Stream, door: Door, phase: Phase) -> Connection {
        Connection {
            stream,
            door,
            phase,
            input: Input::default(),
            large: None,
            waits_for_budget: false,
            out: OutQueue::default(),
            message_max: MESSAGE_MAX,
            is_readable: true,
            is_writable: true,
            is_read_closed: false,
            is_deaf: false,
            is_queued: false,
            is_dirty: false,
            blocked_flows: 0,
            rest: 0,
            unread: 0,
        }
    }

    /// Whether more of it may be read and understood. When its other side has ended, all that is still in the kernel may: it
    /// is bounded, and behind it comes the end that callers and callees must learn of.
    pub fn may_go_on(&self) -> bool {
        let has_windows = self.blocked_flows == 0 && self.rest < REST && self.unread < UNREAD;
        (has_windows || self.is_read_closed)
            && !self.waits_for_budget
            && !matches!(self.phase, Phase::Closing)
    }

    /// Whether it is read until a read says that there is no more.
    pub fn is_at_its_end(&self) -> bool {
        self.is_read_closed || self.is_deaf
    }

    /// Whether there is something to do for it now.
    pub fn has_input(&self) -> bool {
        self.may_go_on() && (self.is_readable || self.has_frame())
    }

    /// Whether something can be understood of what was kept. The beginning of a frame is no reason to be served: it waits
    /// for the socket.
    fn has_frame(&self) -> bool {
        let rest = self.input.rest();
        let Some(head) = rest.first_chunk::<HEAD>() else {
            return false;
        };
        match rawsocket::read_frame_head(*head, self.takes_up_to()) {
            _ if matches!(self.phase, Phase::Octets) => true,
            // A large one is read apart from its head on.
            Ok((_, length)) => length > LARGE || rest.len() >= HEAD + length,
            Err(_) => true,
        }
    }

    /// Its session, once it has one.
    pub fn session(&self) -> Option<SessionKey> {
        match self.phase {
            Phase::Joined(session) => Some(session),
            _ => None,
        }
    }

    /// The longest message it may send now.
    pub fn takes_up_to(&self) -> usize {
        if self.session().is_some() {
            MESSAGE_MAX
        } else {
            MESSAGE_MAX_BEFORE_WELCOME
        }
    }
}

impl Stream {
    /// Tells `registry` to watch it.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Stream::Tcp(stream) => stream.register(registry, token, interest),
            Stream::Unix(stream) => stream.register(registry, token, interest),
        }
    }

    /// Tells `registry` to watch it no more.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.deregister(registry),
            Stream::Unix(stream) => stream.deregister(registry),
        }
    }

    /// Ends both directions.
    pub fn shutdown(&self) {
        // A socket that is closed already needs none.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write_vectored(slices),
            Stream::Unix(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipes_wamp::transport::rawsocket::FrameKind;

    #[test]
    fn the_beginning_of_a_frame_is_nothing_to_do() {
        let (stream, _peer) = UnixStream::pair().unwrap();
        let phase = Phase::Joined(SessionKey::none());
        let mut connection = Connection::new(Stream::Unix(stream), Door::Stages, phase);
        connection.is_readable = false;
        let mut frame = rawsocket::frame_head(FrameKind::Message, 10).to_vec();
        frame.extend_from_slice(&[0; 10]);
        for (length, has_input) in [(0, false), (3, false), (4, false), (13, false), (14, true)] {
            connection.input.replace(&frame[..length]);
            assert_eq!(connection.has_input(), has_input, "{length}");
        }
        let head = rawsocket::frame_head(FrameKind::Message, LARGE + 1);
        connection.input.replace(&head);
        assert!(connection.has_input(), "a large one is read apart");
    }
}
