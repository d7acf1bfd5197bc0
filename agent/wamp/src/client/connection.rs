//! A joined connection, split into a reader and a writer of messages.
//!
//! One buffer each way, reused: reading parses messages in place, writing appends and hands over what the socket takes.
//! No task, no channel, no allocation a message. A message costs one copy out of the kernel and, on its way back, one
//! of its payload into the buffer that goes to the kernel.
//!
//! ```text
//! buffer  ....|head|CALL ......|head|CALL .......|head|CA      |
//!             begin                                      end    <- the next read goes here
//! ```
//!
//! Always: (1) `next` and `flush` may be dropped at any point and called again; (2) a message is parsed only when it
//! is whole; (3) a buffer grows only to the message announced, never over the limit; (4) PINGs are answered by whoever
//! reads, whether or not somebody writes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};

use tokio::net::{TcpStream, UnixStream};

use crate::client::outgoing::Outgoing;
use crate::client::stream::{self, ReadHalf, WriteHalf};
use crate::error::Error;
use crate::message::{Message, Payload};
use crate::payload;
use crate::streaming::Queue;
use crate::transport::rawsocket::{FrameKind, HEAD, MESSAGE_MAX, read_frame_head};

/// The first buffer: control messages are short, and most connections carry nothing else.
const READ_FIRST: usize = 16 << 10;
/// The buffer of a connection that filled its first one: two of the largest chunks of a pipe with their heads.
const READ: usize = 512 << 10;
/// Room behind what was read below which the begin of a message is moved to the front, to keep reads large.
const ROOM_MIN: usize = 256 << 10;
/// A buffer that grew for a large message is given back beyond this.
const KEPT_MAX: usize = 1 << 20;
/// Where in a page the buffer begins: right at a page's begin or a few octets in, copies from page to page take
/// thirty times as long on some processors (`facts/byte-path.md`, Alignment).
const OFFSET: usize = 64;
const PAGE: usize = 4096;

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
    buffer: Vec<u8>,
    /// Where in the buffer reading begins.
    front: usize,
    begin: usize,
    end: usize,
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
            buffer: Vec::new(),
            front: 0,
            begin: 0,
            end: 0,
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
        loop {
            let Some((kind, begin, length)) = self.frame()? else {
                if self.fill().await? > 0 {
                    continue;
                }
                return if self.begin == self.end {
                    Ok(None)
                } else {
                    Err(Error::Closed)
                };
            };
            self.begin = begin + length;
            match kind {
                FrameKind::Message => return Message::parse(&self.buffer[begin..begin + length]).map(Some),
                FrameKind::Ping => lock(&self.outgoing).pong(&self.buffer[begin..begin + length]),
                FrameKind::Pong => {}
            }
        }
    }

    /// Reads exactly the octets of the handshake.
    pub(super) async fn octets(&mut self) -> Result<[u8; HEAD], Error> {
        loop {
            if let Some(octets) = self.unread().first_chunk() {
                let octets = *octets;
                self.begin += HEAD;
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

    fn unread(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }

    /// The next frame, if it is whole: its kind, where its content begins, and that one's length.
    fn frame(&self) -> Result<Option<(FrameKind, usize, usize)>, Error> {
        let Some(octets) = self.unread().first_chunk() else {
            return Ok(None);
        };
        let (kind, length) = read_frame_head(*octets, MESSAGE_MAX)?;
        let whole = self.unread().len() >= HEAD + length;
        Ok(whole.then_some((kind, self.begin + HEAD, length)))
    }

    /// Reads once; meanwhile, PONGs that wait are written.
    async fn fill(&mut self) -> Result<usize, Error> {
        self.make_room()?;
        loop {
            let (waiting, too_many) = self.write_pongs();
            let room = &mut self.buffer[self.end..];
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
            self.end += count;
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

    /// Makes room for what is missing of the next message, and for a large read.
    fn make_room(&mut self) -> Result<(), Error> {
        let filled = self.end == self.buffer.len();
        let unread = self.end - self.begin;
        let needed = match self.unread().first_chunk() {
            Some(octets) => HEAD + read_frame_head(*octets, MESSAGE_MAX)?.1,
            None => HEAD,
        };
        let size = self.buffer.len() - self.front;
        let wanted = match size {
            0 => READ_FIRST,
            // A read took all the room there was: there is more where it came from.
            READ_FIRST if filled => READ,
            _ if size > KEPT_MAX && unread == 0 => READ,
            size => size,
        };
        // A message larger than the buffer has one to its measure, until it is read.
        let wanted = if needed > wanted { needed.max(READ) } else { wanted };
        if wanted != size {
            let (buffer, front) = allocate(wanted);
            let old = std::mem::replace(&mut self.buffer, buffer);
            self.buffer[front..front + unread].copy_from_slice(&old[self.begin..self.end]);
            (self.front, self.begin, self.end) = (front, front, front + unread);
        }
        let room = self.buffer.len() - self.end;
        let whole = self.begin + needed <= self.buffer.len();
        if self.begin > self.front && (unread == 0 || !whole || room < ROOM_MIN.min(wanted / 2)) {
            self.buffer.copy_within(self.begin..self.end, self.front);
            (self.begin, self.end) = (self.front, self.front + unread);
        }
        Ok(())
    }
}

/// A buffer of `size` octets behind where it begins. Fresh memory of this size is zero already and becomes real only
/// where it is written to.
fn allocate(size: usize) -> (Vec<u8>, usize) {
    let buffer = vec![0; size + PAGE + OFFSET];
    let front = (PAGE - buffer.as_ptr() as usize % PAGE) % PAGE + OFFSET;
    let mut buffer = buffer;
    buffer.truncate(front + size);
    (buffer, front)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_where_copies_are_fast() {
        for size in [READ_FIRST, READ, 3 << 20] {
            let (buffer, front) = allocate(size);
            assert_eq!((buffer.as_ptr() as usize + front) % PAGE, OFFSET);
            assert_eq!(buffer.len() - front, size);
        }
    }
}
