//! Listeners: the sockets by which clients come in, and how a waiting one is accepted.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};
use tokio::sync::mpsc;

use crate::clients::authentication::Origin;
use crate::clients::stream::Stream;
use crate::token;

/// After how long a listener that had to stop is tried again.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A bound socket to be served.
pub enum Listener {
    /// RawSocket over TCP.
    Tcp {
        /// The socket.
        listener: std::net::TcpListener,
        /// It is on loopback: realm `default` is open there.
        loopback: bool,
        /// Takes those that begin with TLS; who finds it full is turned away.
        tls: mpsc::Sender<Handshaking>,
    },
    /// The operators' unix socket.
    Operators(StdUnixListener),
    /// The stages' unix socket.
    Stages(StdUnixListener),
}

/// A client that speaks TLS, nothing of which was read.
#[derive(Debug)]
pub struct Handshaking {
    /// Its socket.
    pub stream: std::net::TcpStream,
    /// Whether it came in on loopback.
    pub loopback: bool,
}

/// A listener that the loop watches.
enum Watched {
    Tcp { listener: TcpListener, loopback: bool },
    Operators(UnixListener),
    Stages(UnixListener),
}

/// All listeners, and where somebody may wait to be accepted.
pub(crate) struct Listeners {
    watched: Vec<Watched>,
    /// Where an accept may give a connection.
    pending: Vec<usize>,
    /// Those that could not accept, and since when.
    stuck: VecDeque<(Instant, usize)>,
    /// Who ends TLS.
    tls: Option<mpsc::Sender<Handshaking>>,
    /// The user the agent runs as, who is an operator.
    agent_uid: u32,
}

impl Listeners {
    pub fn new(agent_uid: u32) -> Listeners {
        Listeners {
            watched: Vec::new(),
            pending: Vec::new(),
            stuck: VecDeque::new(),
            tls: None,
            agent_uid,
        }
    }

    /// Serves these sockets too.
    pub fn listen(&mut self, listeners: Vec<Listener>, registry: &Registry) -> io::Result<()> {
        for listener in listeners {
            let place = self.watched.len();
            let token = Token(token::listener(place));
            let watched = match listener {
                Listener::Tcp {
                    listener,
                    loopback,
                    tls,
                } => {
                    self.tls = Some(tls);
                    listener.set_nonblocking(true)?;
                    let mut listener = TcpListener::from_std(listener);
                    registry.register(&mut listener, token, Interest::READABLE)?;
                    Watched::Tcp { listener, loopback }
                }
                Listener::Operators(listener) => Watched::Operators(watch(registry, token, listener)?),
                Listener::Stages(listener) => Watched::Stages(watch(registry, token, listener)?),
            };
            self.watched.push(watched);
            self.pending.push(place);
        }
        Ok(())
    }

    /// Has TLS ended for a client. False: too many wait for it.
    pub fn hand_over(&self, client: Handshaking) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.try_send(client).is_ok())
    }

    /// Somebody may wait at a listener.
    pub fn note(&mut self, place: usize) {
        self.pending.push(place);
    }

    /// Where somebody may wait, to be looked at once.
    pub fn take_pending(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.pending)
    }

    /// Whether an accept may give a connection.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A listener cannot accept now: out of descriptors, mostly.
    pub fn is_stuck(&mut self, place: usize, now: Instant) {
        if self.stuck.iter().all(|(_, other)| *other != place) {
            self.stuck.push_back((now, place));
        }
    }

    /// When one is to be tried again.
    pub fn next_retry(&self) -> Option<Instant> {
        self.stuck.front().map(|(since, _)| *since + ACCEPT_AGAIN_AFTER)
    }

    /// Tries those again that could not accept a while ago.
    pub fn retry_stuck(&mut self, now: Instant) {
        while self.next_retry().is_some_and(|at| at <= now) {
            let place = self.stuck.pop_front().map(|(_, place)| place);
            self.pending.extend(place);
        }
    }

    /// Accepts one connection; `None`: there is no such listener.
    pub fn accept(&mut self, place: usize) -> Option<io::Result<(Stream, Origin)>> {
        Some(match self.watched.get(place)? {
            Watched::Tcp { listener, loopback } => listener.accept().and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
                let loopback = *loopback;
                Ok((Stream::Tcp(stream), Origin::Tcp { loopback }))
            }),
            Watched::Operators(listener) => listener.accept().and_then(|(stream, _)| {
                let uid = peer_uid(&stream)?;
                let trusted = uid == 0 || uid == self.agent_uid;
                Ok((Stream::Unix(stream), Origin::Operators { trusted }))
            }),
            Watched::Stages(listener) => listener
                .accept()
                .map(|(stream, _)| (Stream::Unix(stream), Origin::Stages)),
        })
    }
}

/// A client whose machine is gone is noticed within 25 s, so that its calls end.
fn keepalive() -> TcpKeepalive {
    let every = Duration::from_secs(5);
    TcpKeepalive::new()
        .with_time(2 * every)
        .with_interval(every)
        .with_retries(3)
}

fn watch(registry: &Registry, token: Token, listener: StdUnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    let mut listener = UnixListener::from_std(listener);
    registry.register(&mut listener, token, Interest::READABLE)?;
    Ok(listener)
}

/// The user at the other end (SO_PEERCRED), as the kernel noted it at connect.
fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = std::mem::size_of_val(&credentials) as libc::socklen_t;
    // SAFETY: the descriptor is open for the call's time, and `credentials` is a ucred whose size is passed.
    let got = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut credentials).cast(),
            &mut length,
        )
    };
    if got == 0 {
        Ok(credentials.uid)
    } else {
        Err(io::Error::last_os_error())
    }
}
