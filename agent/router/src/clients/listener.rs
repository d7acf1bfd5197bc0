//! New connections: through which door they come, and when there are too many.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::time::Duration;

use mio::net::{TcpListener, UnixListener, UnixStream};
use mio::{Interest, Token};
use pipes_wamp::transport::rawsocket;
use socket2::{SockRef, TcpKeepalive};
use tracing::{debug, warn};

use crate::clients::authentication::Door;
use crate::clients::connection::{Connection, Phase, Stream};
use crate::event_loop::Shard;
use crate::token;

/// Sessions and connections that have none yet, together.
const CONNECTIONS_MAX: usize = 10_000;
/// Connections that are not authenticated.
pub(crate) const UNAUTHENTICATED_MAX: usize = 1_000;
/// Accepted in one turn of the loop, so that a crowd at the door does not stop what runs.
const ACCEPTED_AT_ONCE: usize = 64;

/// A bound socket to be served.
pub enum Listener {
    /// RawSocket over TCP.
    Tcp {
        /// The socket.
        listener: std::net::TcpListener,
        /// It is on loopback: realm `default` is open there.
        loopback: bool,
    },
    /// The operators' unix socket.
    Operators(StdUnixListener),
    /// The stages' unix socket.
    Stages(StdUnixListener),
}

pub(crate) enum Bound {
    Tcp { listener: TcpListener, loopback: bool },
    Operators(UnixListener),
    Stages(UnixListener),
}

impl Shard {
    /// Serves these sockets too.
    pub fn listen(&mut self, listeners: Vec<Listener>) -> io::Result<()> {
        for listener in listeners {
            let token = Token(token::listener(self.listeners.len()));
            let registry = self.poll.registry();
            let bound = match listener {
                Listener::Tcp { listener, loopback } => {
                    listener.set_nonblocking(true)?;
                    let mut listener = TcpListener::from_std(listener);
                    registry.register(&mut listener, token, Interest::READABLE)?;
                    Bound::Tcp { listener, loopback }
                }
                Listener::Operators(listener) => Bound::Operators(watched(registry, token, listener)?),
                Listener::Stages(listener) => Bound::Stages(watched(registry, token, listener)?),
            };
            self.listeners.push(bound);
            self.knocking.push(self.listeners.len() - 1);
        }
        Ok(())
    }

    /// Lets in who waits at a listener. True: there may be more.
    pub(crate) fn accept(&mut self, place: usize) -> bool {
        for _ in 0..ACCEPTED_AT_ONCE {
            let accepted = match self.listeners.get(place) {
                None => return false,
                Some(Bound::Tcp { listener, loopback }) => listener.accept().and_then(|(stream, _)| {
                    stream.set_nodelay(true)?;
                    SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
                    Ok((Stream::Tcp(stream), Door::Tcp { loopback: *loopback }))
                }),
                Some(Bound::Operators(listener)) => listener.accept().and_then(|(stream, _)| {
                    let uid = peer_uid(&stream)?;
                    let trusted = uid == 0 || uid == self.agent_uid;
                    Ok((Stream::Unix(stream), Door::Operators { trusted }))
                }),
                Some(Bound::Stages(listener)) => listener
                    .accept()
                    .map(|(stream, _)| (Stream::Unix(stream), Door::Stages)),
            };
            match accepted {
                Ok((stream, door)) => self.enter(stream, door),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Gone before it came in.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors, mostly: tried again at the next tick.
                    warn!(%error, "no connection can be accepted now");
                    self.stuck.push(place);
                    return false;
                }
            }
        }
        true
    }

    fn enter(&mut self, mut stream: Stream, door: Door) {
        if self.unauthenticated >= UNAUTHENTICATED_MAX || self.net.connections.len() >= CONNECTIONS_MAX {
            debug!(?door, "one connection too many");
            // Four octets into a new socket's buffer; a client that is gone needs none.
            let _ = stream.write(&rawsocket::too_many_connections());
            return;
        }
        let key = self
            .net
            .connections
            .insert(Connection::new(stream, door, Phase::Octets));
        let Some(connection) = self.net.connections.get_mut(key) else {
            return;
        };
        if let Err(error) = connection
            .stream
            .register(&self.net.registry, Token(token::connection(key)))
        {
            warn!(%error, "a connection cannot be watched");
            self.net.connections.remove(key);
            return;
        }
        self.unauthenticated += 1;
        self.entering.push_back((self.net.now, key));
        self.net.queue(key);
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

fn watched(registry: &mio::Registry, token: Token, listener: StdUnixListener) -> io::Result<UnixListener> {
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
