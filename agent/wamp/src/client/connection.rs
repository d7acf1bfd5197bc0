//! A joined connection, split into a reader and a writer of messages.
//!
//! One buffer each way, reused: reading parses messages in place, writing appends and hands over what the socket takes.
//! No task, no channel, no allocation a message.
//!
//! Always: (1) `next` and `flush` may be dropped at any point and called again; (2) a message is parsed only when it
//! is whole; (3) the buffer grows only to the message announced, never over the limit.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use crate::error::Error;
use crate::message::Message;
use crate::transport::rawsocket::{FrameKind, HEAD, MESSAGE_MAX, frame, frame_head, read_frame_head};

/// One read takes up to this: the largest chunk of a pipe with its head.
const READ: usize = (256 << 10) + 4096;
/// A buffer that grew for a large message is given back beyond this.
const KEPT_MAX: usize = 1 << 20;

/// A joined session on a connection.
pub struct Connection {
    reader: Reader,
    writer: Writer,
    session: u64,
}

/// Reads messages.
pub struct Reader {
    half: ReadHalf,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

/// Writes messages.
pub struct Writer {
    half: WriteHalf,
    buffer: Vec<u8>,
    written: usize,
}

enum ReadHalf {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

impl Connection {
    /// A session that is joined already: those of an agent with its own router.
    pub fn welcomed(stream: UnixStream) -> Connection {
        Connection::unix(stream)
    }

    pub(super) fn unix(stream: UnixStream) -> Connection {
        let (read, write) = stream.into_split();
        Connection::of(ReadHalf::Unix(read), WriteHalf::Unix(write))
    }

    pub(super) fn tcp(stream: TcpStream) -> Connection {
        let (read, write) = stream.into_split();
        Connection::of(ReadHalf::Tcp(read), WriteHalf::Tcp(write))
    }

    fn of(read: ReadHalf, write: WriteHalf) -> Connection {
        let reader = Reader {
            half: read,
            buffer: Vec::new(),
            begin: 0,
            end: 0,
        };
        let writer = Writer {
            half: write,
            buffer: Vec::new(),
            written: 0,
        };
        Connection {
            reader,
            writer,
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

impl Reader {
    /// The next message; `None` when the connection was closed between two messages.
    pub async fn next(&mut self) -> Result<Option<Message<'_>>, Error> {
        loop {
            if let Some((kind, begin, length)) = self.frame()? {
                self.begin = begin + length;
                if kind == FrameKind::Message {
                    return Message::parse(&self.buffer[begin..begin + length]).map(Some);
                }
                // PINGs come from routers that we do not run; ours tells a lost peer by its socket.
                continue;
            }
            if self.fill().await? == 0 {
                return if self.begin == self.end {
                    Ok(None)
                } else {
                    Err(Error::Closed)
                };
            }
        }
    }

    /// Reads exactly the octets of the handshake.
    pub(super) async fn octets(&mut self) -> Result<[u8; HEAD], Error> {
        while self.end - self.begin < HEAD {
            if self.fill().await? == 0 {
                return Err(Error::Closed);
            }
        }
        let octets = self.head();
        self.begin += HEAD;
        Ok(octets)
    }

    /// Whether a whole message lies in the buffer already.
    pub fn is_ready(&self) -> bool {
        !matches!(self.frame(), Ok(None))
    }

    fn head(&self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head.copy_from_slice(&self.buffer[self.begin..self.begin + HEAD]);
        head
    }

    fn frame(&self) -> Result<Option<(FrameKind, usize, usize)>, Error> {
        if self.end - self.begin < HEAD {
            return Ok(None);
        }
        let (kind, length) = read_frame_head(self.head(), MESSAGE_MAX)?;
        let whole = self.end - self.begin >= HEAD + length;
        Ok(whole.then_some((kind, self.begin + HEAD, length)))
    }

    /// Makes room for what is missing of the next message and reads once.
    async fn fill(&mut self) -> Result<usize, Error> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
            if self.buffer.len() > KEPT_MAX {
                self.buffer = Vec::new();
            }
        }
        let needed = if self.end - self.begin >= HEAD {
            HEAD + read_frame_head(self.head(), MESSAGE_MAX)?.1
        } else {
            HEAD
        };
        if self.begin + needed > self.buffer.len() || self.buffer.len() - self.end < READ / 4 {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        let size = needed.max(READ);
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        let (half, room) = (&mut self.half, &mut self.buffer[self.end..]);
        let count = std::future::poll_fn(|context| half.poll_read(context, room)).await?;
        self.end += count;
        Ok(count)
    }
}

impl ReadHalf {
    fn poll_read(&mut self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(room);
        let ready = match self {
            ReadHalf::Tcp(half) => Pin::new(half).poll_read(context, &mut buffer),
            ReadHalf::Unix(half) => Pin::new(half).poll_read(context, &mut buffer),
        };
        ready.map_ok(|()| buffer.filled().len())
    }
}

impl Writer {
    /// Appends a message to what is to be written.
    pub fn queue(&mut self, message: &Message<'_>) {
        frame(&mut self.buffer, |out| message.encode(out));
    }

    /// Appends a message whose payload's bytes are `parts`, one after another: saves putting them together first.
    pub fn queue_parts(&mut self, message: &Message<'_>, parts: &[&[u8]]) {
        frame(&mut self.buffer, |out| {
            message.encode_head(out);
            parts.iter().for_each(|part| out.extend_from_slice(part));
        });
    }

    /// Answers a PING.
    pub fn queue_pong(&mut self, payload: &[u8]) {
        self.buffer
            .extend_from_slice(&frame_head(FrameKind::Pong, payload.len()));
        self.buffer.extend_from_slice(payload);
    }

    pub(super) fn queue_octets(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// Bytes queued and not yet taken by the socket.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Writes all that is queued.
    pub async fn flush(&mut self) -> Result<(), Error> {
        while self.pending() > 0 {
            let rest = &self.buffer[self.written..];
            let count = match &mut self.half {
                WriteHalf::Tcp(half) => half.write(rest).await?,
                WriteHalf::Unix(half) => half.write(rest).await?,
            };
            if count == 0 {
                return Err(Error::Closed);
            }
            self.written += count;
        }
        self.written = 0;
        if self.buffer.capacity() > KEPT_MAX {
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
        Ok(())
    }

    /// Says that nothing more will be written.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.flush().await?;
        match &mut self.half {
            WriteHalf::Tcp(half) => half.shutdown().await?,
            WriteHalf::Unix(half) => half.shutdown().await?,
        }
        Ok(())
    }
}
