//! A client's socket: how long it may be silent, and whether it is still there.
//!
//! A client that has closed its side may be gone, or have said all it has to say: the kernel does not tell. What it is
//! sent does: one that is gone refuses it.
//!
//! Always: (1) a client that neither takes what lies ready nor sends anything for 30 s is given up; one that has nothing to
//! take and nothing to send may be silent for as long as it likes; (2) one that has closed its side is gone when it was sent
//! nothing for a while.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::gateway::limits::SILENCE_MAX;

/// How often it is looked whether a client that is waited with is still there.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What handlers may ask of a client's connection, and do to it.
#[derive(Debug, Clone)]
pub struct Peer {
    stream: Weak<TcpStream>,
    local: SocketAddr,
    is_secure: bool,
    seen: Arc<Seen>,
}

/// What is seen of a client.
#[derive(Debug, Default)]
struct Seen {
    /// The head that came last has two lengths.
    is_ambiguous: AtomicBool,
    /// Its side was closed when this was looked at, or it was last sent something after that.
    closed: Mutex<Option<Instant>>,
}

impl Peer {
    /// The address that the client asked.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether nobody between reads what is said.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether the head that came last has a length as well as chunks.
    pub fn is_ambiguous(&self) -> bool {
        self.seen.is_ambiguous.load(Ordering::Relaxed)
    }

    /// That it has, or not.
    pub fn note_head(&self, is_ambiguous: bool) {
        self.seen.is_ambiguous.store(is_ambiguous, Ordering::Relaxed);
    }

    /// Whether the client is gone, or has closed its side, whatever it sent before that nobody has read, and was sent
    /// nothing since for so long. Not seen where more of that is on its way than the kernel takes: its end waits behind it.
    pub fn is_gone(&self, patience: Duration) -> bool {
        let Some(stream) = self.stream.upgrade() else {
            return true;
        };
        let mut asked = libc::pollfd {
            fd: stream.as_raw_fd(),
            events: libc::POLLRDHUP,
            revents: 0,
        };
        // SAFETY: one entry, whose descriptor is open as long as the stream is held; a timeout of 0 does not wait.
        let found = unsafe { libc::poll(&raw mut asked, 1, 0) };
        if found > 0 && asked.revents & (libc::POLLHUP | libc::POLLERR) != 0 {
            return true;
        }
        if found <= 0 || asked.revents & libc::POLLRDHUP == 0 {
            return false;
        }
        let since = *self.seen.closed().get_or_insert_with(Instant::now);
        since.elapsed() >= patience
    }

    /// Ends once the client is gone, by the same.
    pub async fn gone(&self, patience: Duration) {
        while !self.is_gone(patience) {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Has the connection end with an error, for clients to whom a plain end would be the end of the body.
    pub fn reset_on_close(&self) {
        if let Some(stream) = self.stream.upgrade() {
            // A socket that has ended meanwhile needs none.
            let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Seen {
    /// The lock guards plain data, for a line.
    fn closed(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket, with a limit to how long a client may be silent.
pub struct Socket {
    stream: Arc<TcpStream>,
    peer: Peer,
    /// When a byte went in either direction.
    moved: Instant,
    /// Since there is something that the client does not take.
    blocked: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Of a connection that was accepted, below TLS or not.
    pub fn new(stream: TcpStream, is_secure: bool) -> io::Result<Socket> {
        let local = stream.local_addr()?;
        let stream = Arc::new(stream);
        let peer = Peer {
            stream: Arc::downgrade(&stream),
            local,
            is_secure,
            seen: Arc::default(),
        };
        Ok(Socket {
            stream,
            peer,
            moved: Instant::now(),
            blocked: None,
        })
    }

    /// The client, for those who have no socket to hold.
    pub fn peer(&self) -> Peer {
        self.peer.clone()
    }

    fn note_written(&mut self) {
        self.moved = Instant::now();
        self.blocked = None;
        if let Some(closed) = &mut *self.peer.seen.closed() {
            *closed = self.moved;
        }
    }

    /// Waits until the socket takes more, or the client was silent for too long.
    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(is_ready) = self.stream.poll_write_ready(context) {
            return Poll::Ready(is_ready);
        }
        loop {
            let until = self.moved + SILENCE_MAX;
            let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(SILENCE_MAX)));
            ready!(blocked.as_mut().poll(context));
            if Instant::now() >= until {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // It sends, at least.
            blocked.as_mut().reset(until);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    if count > 0 {
                        self.moved = Instant::now();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_writable(context))?;
            match self.stream.try_write_vectored(parts) {
                Ok(count) => {
                    self.note_written();
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&*self.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
