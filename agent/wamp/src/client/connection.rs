//! A joined connection, split into a reader and a writer of messages.
//!
//! One buffer each way, reused: reading parses messages in place, writing appends and hands over what the socket takes.
//! No task, no channel, no allocation a message. A message costs one copy out of the kernel and, on its way back, one
//! of its payload into the buffer that goes to the kernel.
//!
//! Always: (1) `next` and `flush` may be dropped at any point and called again; (2) a message is parsed only when it
//! is whole; (3) a buffer (`read_buffer.rs`, `outgoing.rs`) grows only to the message announced, never over the limit;
//! (4) PINGs are answered by whoever reads, whether or not somebody writes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};

use tokio::net::{TcpStream, UnixStream};

use crate::client::outgoing::Outgoing;
use crate::client::read_buffer::ReadBuffer;
use crate::client::stream::{self, ReadHalf, WriteHalf};
use crate::error::Error;
use crate::message::{Message, Payload};
use crate::payload;
use crate::streaming::Queue;
use crate::transport::rawsocket::{FrameKind, HEAD, MESSAGE_MAX, read_frame_head};

/// A joined session on a connection.
pub struct Connection {
    reader: Reader,
    writer: Writer,
    session: u64,
}

/// Reads messages.
pub struct Reader {
    half: ReadHalf,
    outgoing: Arc<Mutex<Outgoing>>,
    buffer: ReadBuffer,
    heard: u64,
}

/// Writes messages. Whoever queues looks at [`Writer::pending`]: nothing else bounds it.
pub struct Writer {
    half: WriteHalf,
    outgoing: Arc<Mutex<Outgoing>>,
}

impl Connection {
    /// A session that is joined already: those of an agent with its own router.
    pub fn welcomed(stream: UnixStream) -> Connection {
        Connection::unix(stream)
    }

    pub(super) fn unix(stream: UnixStream) -> Connection {
        let (read, write) = stream::unix(stream);
        Connection::of(read, write)
    }

    pub(super) fn tcp(stream: TcpStream) -> Connection {
        let (read, write) = stream::tcp(stream);
        Connection::of(read, write)
    }

    fn of(read: ReadHalf, write: WriteHalf) -> Connection {
        let outgoing = Arc::new(Mutex::new(Outgoing::new()));
        let reader = Reader {
            half: read,
            outgoing: outgoing.clone(),
            buffer: ReadBuffer::default(),
            heard: 0,
        };
        Connection {
            reader,
            writer: Writer {
                half: write,
                outgoing,
            },
            session: 0,
        }
    }

    pub(super) fn halves(&mut self) -> (&mut Reader, &mut Writer) {
        (&mut self.reader, &mut self.writer)
    }

    pub(super) fn joined(&mut self, session: u64) {
        self.session = session;
    }

    /// The session's id; 0 for one that was joined already.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Both directions.
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }
}

/// The lock is held for a few lines and never across an await; what it guards is whole between them.
fn lock(outgoing: &Mutex<Outgoing>) -> MutexGuard<'_, Outgoing> {
    outgoing.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    /// The next message; `None` when the connection was closed between two messages.
    pub async fn next(&mut self) -> Result<Option<Message<'_>>, Error> {
        if !self.wait().await? {
            return Ok(None);
        }
        let length = self.frame()?.map_or(0, |(_, length)| length);
        self.buffer.take(HEAD);
        let content = self.buffer.take(length);
        Message::parse(self.buffer.taken(content)).map(Some)
    }

    /// Waits until a message is whole, which `next` then gives at once; false when the connection was closed between two
    /// messages. For those who want to wait for so long alone.
    pub async fn wait(&mut self) -> Result<bool, Error> {
        loop {
            let Some((kind, length)) = self.frame()? else {
                if self.fill().await? > 0 {
                    continue;
                }
                return if self.buffer.unread().is_empty() {
                    Ok(false)
                } else {
                    Err(Error::Closed)
                };
            };
            if kind == FrameKind::Message {
                return Ok(true);
            }
            self.buffer.take(HEAD);
            let content = self.buffer.take(length);
            if kind == FrameKind::Ping {
                lock(&self.outgoing).pong(self.buffer.taken(content));
            }
        }
    }

    /// Octets that came so far: the peer lives as long as there are more, PONGs among them.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Reads exactly the octets of the handshake.
    pub(super) async fn octets(&mut self) -> Result<[u8; HEAD], Error> {
        loop {
            if let Some(octets) = self.buffer.unread().first_chunk() {
                let octets = *octets;
                self.buffer.take(HEAD);
                return Ok(octets);
            }
            if self.fill().await? == 0 {
                return Err(Error::Closed);
            }
        }
    }

    /// Whether `next` has something to say without reading from the socket.
    pub fn is_ready(&self) -> bool {
        !matches!(self.frame(), Ok(None))
    }

    /// The next frame, if it is whole: its kind, and its content's length.
    fn frame(&self) -> Result<Option<(FrameKind, usize)>, Error> {
        let is_whole = |(_, length): &(FrameKind, usize)| self.buffer.unread().len() >= HEAD + length;
        Ok(self.frame_head()?.filter(is_whole))
    }

    /// The head of the next frame, if that is whole.
    fn frame_head(&self) -> Result<Option<(FrameKind, usize)>, Error> {
        let octets = self.buffer.unread().first_chunk();
        octets
            .map(|octets| read_frame_head(*octets, MESSAGE_MAX))
            .transpose()
    }

    /// Reads once; meanwhile, PONGs that wait are written.
    async fn fill(&mut self) -> Result<usize, Error> {
        let content = self.frame_head()?.map_or(0, |(_, length)| length);
        self.buffer.make_room(HEAD + content);
        loop {
            let (waiting, too_many) = self.write_pongs();
            let room = self.buffer.room();
            let count = if too_many {
                self.half.writable().await?;
                continue;
            } else if waiting {
                match self.half.read_or_writable(room).await? {
                    Some(count) => count,
                    None => continue,
                }
            } else {
                self.half.read(room).await?
            };
            self.buffer.filled(count);
            self.heard += count as u64;
            return Ok(count);
        }
    }

    /// Writes what waits if PONGs are among it; whether some still wait, and whether too many.
    fn write_pongs(&self) -> (bool, bool) {
        let mut outgoing = lock(&self.outgoing);
        while outgoing.pongs().0 {
            match self.half.try_write(outgoing.rest()) {
                Ok(count) => outgoing.wrote(count),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // A peer that is gone needs no answer, but what it sent before is still to be read; whoever writes
                // has the error.
                Err(_) => {
                    outgoing.forget_pongs();
                    break;
                }
            }
        }
        outgoing.pongs()
    }
}

impl Queue for Writer {
    fn queue(&mut self, message: &Message<'_>) {
        Writer::queue(self, message);
    }
}

impl Writer {
    /// Appends a message to what is to be written. One that is longer than the peer takes ends the writing: `flush`
    /// says so.
    pub fn queue(&mut self, message: &Message<'_>) {
        lock(&self.outgoing).message_or_end(message, |out| out.extend_from_slice(message.payload().bytes));
    }

    /// Appends a message, or says that it is longer than the peer takes; then nothing is appended.
    pub fn try_queue(&mut self, message: &Message<'_>) -> Result<(), Error> {
        lock(&self.outgoing).message(message, |out| out.extend_from_slice(message.payload().bytes))
    }

    /// Appends a message whose payload's bytes are `parts`, one after another, instead of its own: saves putting them
    /// together first.
    pub fn queue_parts(&mut self, message: &Message<'_>, parts: &[&[u8]]) {
        lock(&self.outgoing).message_or_end(message, |out| {
            parts.iter().for_each(|part| out.extend_from_slice(part))
        });
    }

    /// Appends a message with the arguments `[data]`; `message` makes it of what stands before the data. The data is
    /// copied once, to where the socket takes it from.
    ///
    /// ```ignore
    /// writer.queue_bytes(data, |payload| Message::Yield { request, progress: true, payload });
    /// ```
    pub fn queue_bytes<'m>(&mut self, data: &[u8], message: impl FnOnce(Payload<'m>) -> Message<'m>) {
        let message = message(Payload { parts: 1, bytes: &[] });
        lock(&self.outgoing).message_or_end(&message, |out| payload::write_bytes_arg(out, data));
    }

    /// Asks the peer whether it is there: [`Reader::heard`] grows by its answer.
    pub fn queue_ping(&mut self) {
        lock(&self.outgoing).ping();
    }

    /// Answers a PING. The reader does so by itself.
    pub fn queue_pong(&mut self, payload: &[u8]) {
        lock(&self.outgoing).pong(payload);
    }

    pub(super) fn queue_octets(&mut self, octets: &[u8]) {
        lock(&self.outgoing).octets(octets);
    }

    pub(super) fn limit(&mut self, limit: usize) {
        lock(&self.outgoing).limit(limit);
    }

    /// Bytes queued and not yet taken by the socket.
    pub fn pending(&self) -> usize {
        lock(&self.outgoing).pending()
    }

    /// Writes all that is queued.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let (half, outgoing) = (&mut self.half, &self.outgoing);
        std::future::poll_fn(|context| {
            let mut outgoing = lock(outgoing);
            while outgoing.pending() > 0 {
                match ready!(half.poll_write(context, outgoing.rest()))? {
                    0 => return Poll::Ready(Err(Error::Closed)),
                    count => outgoing.wrote(count),
                }
            }
            Poll::Ready(outgoing.outcome())
        })
        .await
    }

    /// Says that nothing more will be written.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.flush().await?;
        Ok(self.half.shutdown().await?)
    }
}
