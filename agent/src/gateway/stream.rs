//! A client's octets as HTTP has them: plain, or out of TLS; and what is seen of them on their way to hyper.
//!
//! hyper reads a head that has both a length and chunks as chunks, and does not show that the length was there (RFC 9112,
//! 6.3 lets it): whether one came is seen here, so that such a request can be refused.
//!
//! Always: (1) a head is looked at from the first octet after an answer on; (2) what of it is kept is the name of the field
//! that is being read, and two flags.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::gateway::socket::{Peer, Socket};

/// Longest of the names that are looked for.
const NAME_MAX: usize = "transfer-encoding".len();

/// What carries them.
pub enum Carrier {
    /// The socket itself.
    Plain(Socket),
    /// TLS over it.
    Tls(Box<TlsStream<Socket>>),
}

/// The octets.
pub struct Stream {
    carrier: Carrier,
    /// Told what the head that came last is like.
    peer: Peer,
    head: Head,
    /// Octets came since the last ones went.
    is_unanswered: bool,
}

impl Stream {
    /// Of what carries them, to and from this client.
    pub fn new(carrier: Carrier, peer: Peer) -> Stream {
        Stream {
            carrier,
            peer,
            head: Head::default(),
            is_unanswered: false,
        }
    }

    /// Of a socket alone.
    pub fn plain(socket: Socket) -> Stream {
        let peer = socket.peer();
        Stream::new(Carrier::Plain(socket), peer)
    }

    /// The client, for those who have no socket to hold.
    pub fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// Whether octets came since the last ones went.
    pub fn is_unanswered(&self) -> bool {
        self.is_unanswered
    }

    fn note_read(&mut self, octets: &[u8]) {
        if octets.is_empty() {
            return;
        }
        if !self.is_unanswered {
            self.head = Head::default();
        }
        self.is_unanswered = true;
        self.head.read(octets);
        self.peer.note_head(self.head.is_ambiguous());
    }
}

/// A head as far as it has come.
#[derive(Debug, Default)]
struct Head {
    /// Of the line that is being read, as far as it may be a name that counts.
    name: Vec<u8>,
    /// Behind the name, or in a line that does not count.
    is_in_rest: bool,
    /// Nothing of the line has come.
    is_line_empty: bool,
    is_over: bool,
    has_length: bool,
    has_chunks: bool,
}

impl Head {
    fn is_ambiguous(&self) -> bool {
        self.has_length && self.has_chunks
    }

    fn read(&mut self, octets: &[u8]) {
        for octet in octets {
            if self.is_over {
                return;
            }
            match octet {
                b'\n' => {
                    self.is_over = std::mem::replace(&mut self.is_line_empty, true);
                    self.is_in_rest = false;
                    self.name.clear();
                }
                b'\r' => {}
                _ => {
                    self.is_line_empty = false;
                    self.read_in_line(*octet);
                }
            }
        }
    }

    fn read_in_line(&mut self, octet: u8) {
        if self.is_in_rest {
            return;
        }
        if octet == b':' {
            self.has_length |= self.name.eq_ignore_ascii_case(b"content-length");
            self.has_chunks |= self.name.eq_ignore_ascii_case(b"transfer-encoding");
        } else if self.name.len() < NAME_MAX {
            self.name.push(octet);
            return;
        }
        self.is_in_rest = true;
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(match &mut self.carrier {
            Carrier::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Carrier::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        })?;
        self.note_read(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_unanswered = false;
        match &mut self.carrier {
            Carrier::Plain(socket) => Pin::new(socket).poll_write(context, octets),
            Carrier::Tls(stream) => Pin::new(stream).poll_write(context, octets),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_unanswered = false;
        match &mut self.carrier {
            Carrier::Plain(socket) => Pin::new(socket).poll_write_vectored(context, parts),
            Carrier::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.carrier {
            Carrier::Plain(socket) => socket.is_write_vectored(),
            Carrier::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Plain(socket) => Pin::new(socket).poll_flush(context),
            Carrier::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Carrier::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_with_a_length_and_chunks_is_told_in_whatever_pieces_it_comes() {
        let first = "POST / HTTP/1.1\r\nhost: a\r\n";
        for (fields, expected) in [
            ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", true),
            ("transfer-encoding:chunked\r\nx: y\r\nCONTENT-LENGTH:3\r\n", true),
            ("transfer-encoding: chunked\r\n\r\ncontent-length: 3\r\n", false),
            ("transfer-encoding: chunked\r\nx-content-length: 3\r\n", false),
            ("x: content-length: 3\r\ntransfer-encoding: chunked\r\n", false),
            ("content-length: 3\r\ntransfer-encodings: chunked\r\n", false),
            ("content-length: 3\r\n", false),
        ] {
            let whole = format!("{first}{fields}\r\n");
            for size in [1, 7, whole.len()] {
                let mut head = Head::default();
                whole.as_bytes().chunks(size).for_each(|piece| head.read(piece));
                assert_eq!(head.is_ambiguous(), expected, "{fields:?} in pieces of {size}");
            }
        }
    }
}
