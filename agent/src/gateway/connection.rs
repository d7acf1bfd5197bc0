//! One client's connection: HTTP/1.1 by hyper, and what hyper leaves open.
//!
//! | the client | what happens |
//! |---|---|
//! | sends half a head and then nothing | 408 after 10 s |
//! | neither takes what lies ready nor sends anything | the connection ends after 30 s |
//! | is refused while it still sends | its answer, and what it sends is thrown away for a while: closed at once, the kernel would take the answer back |
//! | is gone, while nobody reads its body | is seen by those who ask ([`Peer::is_gone`]) |
//!
//! Always: a connection ends with the listener that took it, after the request it is in.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::gateway::limits::{HEAD_MAX, HEAD_WITHIN, SILENCE_MAX};
use crate::gateway::route::{Routes, Scope};

/// How long what a client still sends is thrown away after its last answer, and how long it may pause meanwhile.
const LINGER_MAX: Duration = Duration::from_secs(10);
const LINGER_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long the request that a connection is in may go on when all is to stop.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// What is said to who does not come to the end of a head.
const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n\
    connection: close\r\ncontent-length: 45\r\n\r\nthe request's head did not come in 10 seconds";

/// Serves a connection to its end.
pub async fn serve(
    stream: TcpStream,
    scope: Scope,
    routes: Routes,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let io = Io::new(stream)?;
    let peer = io.peer.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (routes, scope, peer) = (routes.clone(), scope.clone(), peer.clone());
        Box::pin(async move {
            let response = routes.answer(scope, peer, request.map(Body::new)).await;
            Ok::<_, std::convert::Infallible>(response)
        })
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MAX);
    let mut connection = builder.serve_connection(TokioIo::new(io), service);
    let served = tokio::select! {
        served = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => served,
        () = stop.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            let rest = std::future::poll_fn(|context| connection.poll_without_shutdown(context));
            match timeout(STOP_WITHIN, rest).await {
                Ok(served) => served,
                Err(_) => return Ok(()),
            }
        }
    };
    let mut io = connection.into_parts().io.into_inner();
    match served {
        Ok(()) => io.linger(&stop).await,
        Err(error) if error.is_timeout() && io.is_unanswered => {
            io.write_all(SLOW_HEAD).await?;
            io.linger(&stop).await;
        }
        // It said all it had to, in a status of its own.
        Err(error) if error.is_parse() => io.linger(&stop).await,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// What handlers may ask of a client's connection, and do to it.
#[derive(Debug, Clone)]
pub struct Peer {
    stream: Weak<TcpStream>,
    local: SocketAddr,
}

impl Peer {
    /// The address that the client asked.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether the client has closed its side, whatever it sent before that nobody has read.
    pub fn is_gone(&self) -> bool {
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
        found > 0 && asked.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
    }

    /// Has the connection end with an error, for clients to whom a plain end would be the end of the body.
    pub fn reset_on_close(&self) {
        if let Some(stream) = self.stream.upgrade() {
            // A socket that has ended meanwhile needs none.
            let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// The socket, with a limit to how long a client may be silent.
struct Io {
    stream: Arc<TcpStream>,
    peer: Peer,
    /// When a byte went in either direction.
    moved: Instant,
    /// Since there is something that the client does not take.
    blocked: Option<Pin<Box<Sleep>>>,
    /// Bytes came since the last ones went.
    is_unanswered: bool,
}

impl Io {
    fn new(stream: TcpStream) -> io::Result<Io> {
        let local = stream.local_addr()?;
        let stream = Arc::new(stream);
        let peer = Peer {
            stream: Arc::downgrade(&stream),
            local,
        };
        Ok(Io {
            stream,
            peer,
            moved: Instant::now(),
            blocked: None,
            is_unanswered: false,
        })
    }

    fn note_written(&mut self) {
        self.moved = Instant::now();
        self.blocked = None;
        self.is_unanswered = false;
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

    /// Says that no answer follows, and reads on until the client has read it.
    async fn linger(&mut self, stop: &CancellationToken) {
        let until_silent = async {
            self.shutdown().await?;
            let mut thrown_away = vec![0; 16 << 10];
            while timeout(LINGER_PAUSE_MAX, self.read(&mut thrown_away)).await?? > 0 {}
            anyhow::Ok(())
        };
        // However it ends, the connection does.
        let _ = stop.run_until_cancelled(timeout(LINGER_MAX, until_silent)).await;
    }
}

impl AsyncRead for Io {
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
                        self.is_unanswered = true;
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Io {
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
