//! Who comes in: TCP, TLS, the greeting, then to the part the connection is for.
//!
//! Connections are accepted on the store's runtime. The class stands in the first octets of TLS (ALPN), so what is not
//! Raft's goes to the other runtime before any work is done for it. A connection that fails, whatever was sent on it,
//! ends alone, with one line in the log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::server::Acceptor;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tracing::{debug, info, warn};

use super::admitted::Admitted;
use super::class::Class;
use super::handshake::{self, Hello};
use super::identity::Local;
use super::raft_rpc::{self, Answers};
use super::tls::Tls;
use super::{Error, dial};
use crate::doors::{Doors, Visitor};
use crate::lifecycle::{Kind, Lifecycle};
use crate::rationed::Rationed;

/// Connections not yet greeted, at once, a quarter of them of one address; beyond, the oldest goes. Each is over within the
/// handshake's limit.
const GREETED_AT_ONCE: usize = 64;

/// Connections of all classes at once; further ones wait in the kernel. A hundred agents have six each.
const CONNECTIONS_MAX: usize = 1024;

/// Connections handed over and not yet taken, a class; the next wait greeted.
pub const HANDED_OVER_MAX: usize = 16;

/// After a failed accept (no descriptors left, mostly) nothing is accepted for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A greeted connection for another part.
pub struct Incoming {
    /// Who is there, as the certificate confirms.
    pub hello: Hello,
    /// From where.
    pub address: SocketAddr,
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// The list that it is on: it ends with that.
    pub admitted: Admitted,
    /// Its place among all; to be held as long as the connection is.
    pub place: OwnedSemaphorePermit,
}

/// Accepts connections of the mesh.
pub struct Listener {
    /// Our certificates.
    pub tls: Tls,
    /// What we say of ourselves.
    pub local: Local,
    /// Who may connect.
    pub admitted: Admitted,
    /// Who answers the calls of class Raft.
    pub answers: Arc<dyn Answers>,
    /// Takes the connections of class Router.
    pub router: mpsc::Sender<Incoming>,
    /// Takes the connections of class Bulk.
    pub bulk: mpsc::Sender<Incoming>,
    /// Where what is not Raft's goes on.
    pub streams: Handle,
    /// Stops and awaits the connections.
    pub lifecycle: Lifecycle,
    /// What strangers have written into the log.
    pub lines: Lines,
}

/// The lines of the log that whoever reaches the port can cause.
#[derive(Debug, Default)]
pub struct Lines {
    turned_away: Rationed,
    ended: Rationed,
    not_accepted: Rationed,
}

impl Listener {
    /// Accepts until the agent stops; to be run on the store's runtime.
    pub async fn run(self, listener: std::net::TcpListener) -> anyhow::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let shared = Arc::new(self);
        let stopping = shared.lifecycle.stopping();
        stopping
            .run_until_cancelled(shared.accept(listener))
            .await
            .unwrap_or(Ok(()))
    }

    async fn accept(self: &Arc<Self>, listener: TcpListener) -> anyhow::Result<()> {
        let greetings = Doors::default().open(GREETED_AT_ONCE);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&places).acquire_owned().await?;
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(left_out) = self.lines.not_accepted.admit(Instant::now()) {
                        warn!(%error, left_out, "cannot accept a connection of the mesh");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (shared, greeting) = (Arc::clone(self), greetings.enter(address.ip()));
            self.lifecycle
                .spawn(Kind::Connection, "mesh greeting", async move {
                    if let Err(error) = Arc::clone(&shared).greet(stream, address, greeting, place).await {
                        shared.log(address, &error);
                    }
                    Ok(())
                });
        }
    }

    fn log(&self, address: SocketAddr, error: &Error) {
        let why = error.to_string();
        // Whoever reaches the port can cause either.
        match error {
            Error::Certificate(_) | Error::Foreign(_) | Error::Malformed(_) | Error::TooLong { .. } => {
                if let Some(left_out) = self.lines.turned_away.admit(Instant::now()) {
                    warn!(%address, why, left_out, "turned away a connection of the mesh");
                }
            }
            _ => {
                if let Some(left_out) = self.lines.ended.admit(Instant::now()) {
                    info!(%address, why, left_out, "a connection of the mesh ended");
                }
            }
        }
    }

    /// Finds out the class and goes on where it belongs.
    async fn greet(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        greeting: Visitor,
        place: OwnedSemaphorePermit,
    ) -> Result<(), Error> {
        dial::prepare(&SockRef::from(&stream))?;
        let first = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let start = greeting
            .unless_ended(tokio::time::timeout(handshake::LIMIT, first))
            .await
            .ok_or_else(crowded)?
            .map_err(|_| Error::TimedOut(handshake::LIMIT))?
            .map_err(Error::of_tls)?;
        let Some(class) = class(&start) else {
            return Err(Error::Malformed("no class of the mesh is asked for".to_owned()));
        };
        if class == Class::Raft {
            return self.welcome(start, class, address, greeting, place).await;
        }
        let stream = start.io.into_std()?;
        let accepted = start.accepted;
        let streams = self.streams.clone();
        let lifecycle = self.lifecycle.clone();
        lifecycle.spawn_on(&streams, Kind::Connection, "mesh welcome", async move {
            let start = StartHandshake::from_parts(accepted, TcpStream::from_std(stream)?);
            if let Err(error) = Arc::clone(&self)
                .welcome(start, class, address, greeting, place)
                .await
            {
                self.log(address, &error);
            }
            Ok(())
        });
        Ok(())
    }

    /// TLS and the greeting; then the class' part has it.
    async fn welcome(
        self: Arc<Self>,
        start: StartHandshake<TcpStream>,
        class: Class,
        address: SocketAddr,
        greeting: Visitor,
        place: OwnedSemaphorePermit,
    ) -> Result<(), Error> {
        let greeted = async {
            let mut stream = start
                .into_stream(self.tls.server())
                .await
                .map_err(Error::of_tls)?;
            let certificate = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| chain.first());
            let Some(peer) = certificate.and_then(pipes_membership::identity) else {
                return Err(Error::Foreign("it has no certificate of a node".to_owned()));
            };
            let hello = handshake::receive(&mut stream, &self.local, &peer, class, &self.admitted).await?;
            Ok((stream, hello))
        };
        let (stream, hello) = greeting
            .unless_ended(tokio::time::timeout(handshake::LIMIT, greeted))
            .await
            .ok_or_else(crowded)?
            .unwrap_or(Err(Error::TimedOut(handshake::LIMIT)))?;
        drop(greeting);
        debug!(%address, name = hello.name, node = hello.node, ?class, "welcomed");
        let incoming = |place| Incoming {
            hello,
            address,
            stream,
            admitted: self.admitted.clone(),
            place,
        };
        let handed_over = match class {
            Class::Raft => {
                let Incoming {
                    stream, place, hello, ..
                } = incoming(place);
                let served = tokio::select! {
                    served = raft_rpc::serve(stream, Arc::clone(&self.answers), self.lifecycle.clone()) => served,
                    () = self.admitted.left(&hello.name) => Err(Error::Foreign(format!("{} was removed", hello.name))),
                };
                drop(place);
                return served;
            }
            Class::Router => self.router.send(incoming(place)).await,
            Class::Bulk => self.bulk.send(incoming(place)).await,
        };
        handed_over.map_err(|_| Error::Broken(std::io::Error::other("the agent stops")))
    }
}

/// That others came, and it had not said who it is.
fn crowded() -> Error {
    Error::Broken(std::io::Error::other(
        "too many others came before it was greeted",
    ))
}

fn class(start: &StartHandshake<TcpStream>) -> Option<Class> {
    let hello = start.client_hello();
    let asked: Vec<&[u8]> = hello.alpn()?.collect();
    Class::ALL
        .into_iter()
        .find(|class| asked.contains(&class.protocol()))
}
