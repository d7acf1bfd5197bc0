//! The two kinds of socket that a connection runs over, by halves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// The half that is read.
pub(super) enum ReadHalf {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

/// The half that is written; dropped, it tells the peer that nothing more will come.
pub(super) enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

/// Splits a TCP connection.
pub(super) fn tcp(stream: TcpStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = stream.into_split();
    (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
}

/// Splits a connection over a unix socket.
pub(super) fn unix(stream: UnixStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = stream.into_split();
    (ReadHalf::Unix(read), WriteHalf::Unix(write))
}

impl ReadHalf {
    /// Reads once.
    pub(super) async fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|context| {
            let mut buffer = ReadBuf::new(room);
            let ready = match self {
                ReadHalf::Tcp(half) => Pin::new(half).poll_read(context, &mut buffer),
                ReadHalf::Unix(half) => Pin::new(half).poll_read(context, &mut buffer),
            };
            ready.map_ok(|()| buffer.filled().len())
        })
        .await
    }

    /// Reads once, or returns `None` when there is nothing to read and the socket takes more.
    pub(super) async fn read_or_writable(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            ReadHalf::Tcp(half) => {
                let stream: &TcpStream = half.as_ref();
                tokio::select! {
                    ready = stream.readable() => ready?,
                    ready = stream.writable() => return ready.map(|()| None),
                }
                read_now(stream.try_read(room))
            }
            ReadHalf::Unix(half) => {
                let stream: &UnixStream = half.as_ref();
                tokio::select! {
                    ready = stream.readable() => ready?,
                    ready = stream.writable() => return ready.map(|()| None),
                }
                read_now(stream.try_read(room))
            }
        }
    }

    /// Writes what the socket takes at once: a reader answers PINGs, whoever holds the writer.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            ReadHalf::Tcp(half) => half.as_ref().try_write(bytes),
            ReadHalf::Unix(half) => half.as_ref().try_write(bytes),
        }
    }

    /// Waits until the socket takes more.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            ReadHalf::Tcp(half) => half.as_ref().writable().await,
            ReadHalf::Unix(half) => half.as_ref().writable().await,
        }
    }
}

impl WriteHalf {
    /// Writes once.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            WriteHalf::Tcp(half) => Pin::new(half).poll_write(context, bytes),
            WriteHalf::Unix(half) => Pin::new(half).poll_write(context, bytes),
        }
    }

    /// Says that nothing more will be written.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| match self {
            WriteHalf::Tcp(half) => Pin::new(half).poll_shutdown(context),
            WriteHalf::Unix(half) => Pin::new(half).poll_shutdown(context),
        })
        .await
    }
}

/// A read that found nothing after all is no error.
fn read_now(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        result => result.map(Some),
    }
}
