//! From an endpoint to a joined connection: socket, handshake, HELLO, proof of identity.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ring::signature::{Ed25519KeyPair, KeyPair};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

use crate::client::connection::Connection;
use crate::error::Error;
use crate::session::{self, CHANNEL_BINDING, Signing, Step};
use crate::transport::rawsocket;

/// How long a router may take from connecting to WELCOME. Whoever has several routers turns to the next one sooner.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Where a router listens.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// RawSocket over TCP.
    Tcp(SocketAddr),
    /// RawSocket over a unix socket.
    Unix(PathBuf),
}

/// Who the client is.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Nobody in particular; on the operators' socket, whom the kernel says.
    Anonymous,
    /// A secret known to both.
    Ticket {
        /// Its name.
        authid: String,
        /// The secret.
        ticket: String,
    },
    /// A key whose public half the router knows.
    Cryptosign {
        /// Its name.
        authid: String,
        /// The key.
        key: Arc<Ed25519KeyPair>,
        /// The TLS channel that it proves itself over, by its name (RFC 9266, `tls-exporter`).
        channel: Option<[u8; 32]>,
    },
}

impl Auth {
    fn method(&self) -> &'static str {
        match self {
            Auth::Anonymous => "anonymous",
            Auth::Ticket { .. } => "ticket",
            Auth::Cryptosign { .. } => "cryptosign",
        }
    }

    /// The same over a TLS channel of this name: what is signed covers it.
    pub fn over(&self, name: [u8; 32]) -> Auth {
        let mut auth = self.clone();
        if let Auth::Cryptosign { channel, .. } = &mut auth {
            *channel = Some(name);
        }
        auth
    }

    fn authid(&self) -> Option<&str> {
        match self {
            Auth::Anonymous => None,
            Auth::Ticket { authid, .. } | Auth::Cryptosign { authid, .. } => Some(authid),
        }
    }

    fn prove(&self, challenge: &str) -> Result<String, Error> {
        match self {
            Auth::Anonymous => Err(Error::Malformed("a challenge to an anonymous client")),
            Auth::Ticket { ticket, .. } => Ok(ticket.clone()),
            Auth::Cryptosign { key, channel, .. } => {
                session::sign_cryptosign(key, challenge, channel.as_ref())
            }
        }
    }
}

/// Connects and joins `realm`. Dropped before its end, it leaves nothing behind: clients race several routers.
pub async fn connect(endpoint: &Endpoint, realm: &str, auth: &Auth) -> Result<Connection, Error> {
    match tokio::time::timeout(CONNECT_MAX, connect_and_join(endpoint, realm, auth)).await {
        Ok(result) => result,
        Err(_) => Err(Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// A peer that is gone is noticed within 25 s, one that is merely stopped is waited for.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3)
}

/// A TCP connection as a session needs it: small messages leave at once, and a peer that is gone is noticed.
pub async fn tcp(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
    Ok(stream)
}

async fn connect_and_join(endpoint: &Endpoint, realm: &str, auth: &Auth) -> Result<Connection, Error> {
    let connection = match endpoint {
        Endpoint::Tcp(address) => Connection::tcp(tcp(*address).await?),
        Endpoint::Unix(path) => Connection::unix(UnixStream::connect(path).await?),
    };
    joined(connection, realm, auth).await
}

/// Joins `realm` over a unix stream that is connected already, from the handshake on.
pub async fn join(stream: UnixStream, realm: &str, auth: &Auth) -> Result<Connection, Error> {
    joined(Connection::unix(stream), realm, auth).await
}

/// Handshake and session over a connection that is there.
async fn joined(mut connection: Connection, realm: &str, auth: &Auth) -> Result<Connection, Error> {
    let (pubkey, channel) = match auth {
        Auth::Cryptosign { key, channel, .. } => (Some(hex::encode(key.public_key().as_ref())), *channel),
        _ => (None, None),
    };
    let signing = Signing {
        pubkey: pubkey.as_deref(),
        channel_binding: channel.map(|_| CHANNEL_BINDING),
    };
    let (reader, writer) = connection.halves();
    // The HELLO goes with the handshake: a router that refuses the one does not read the other.
    writer.queue_octets(&rawsocket::client_handshake());
    let mut hello = Vec::new();
    session::hello(&mut hello, realm, auth.method(), auth.authid(), signing);
    writer.queue_octets(&rawsocket::frame_head(rawsocket::FrameKind::Message, hello.len()));
    writer.queue_octets(&hello);
    writer.flush().await?;
    writer.limit(rawsocket::accepted(reader.octets().await?)?);
    loop {
        let message = reader.next().await?.ok_or(Error::Closed)?;
        match session::answer(&message)? {
            Step::Welcome(id) => {
                connection.joined(id);
                return Ok(connection);
            }
            Step::Challenge(challenge) => {
                let signature = auth.prove(&challenge)?;
                writer.queue(&crate::message::Message::Authenticate {
                    signature: &signature,
                    extra: crate::message::EMPTY_MAP,
                });
                writer.flush().await?;
            }
        }
    }
}
