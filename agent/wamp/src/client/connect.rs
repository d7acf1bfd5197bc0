//! From an endpoint to a joined connection: socket, handshake, HELLO, proof of identity.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ring::signature::{Ed25519KeyPair, KeyPair};
use tokio::net::{TcpStream, UnixStream};

use crate::client::connection::Connection;
use crate::error::Error;
use crate::session::{self, Step};
use crate::transport::rawsocket;

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
            Auth::Cryptosign { key, .. } => session::sign_cryptosign(key, challenge),
        }
    }
}

/// Connects and joins `realm`.
pub async fn connect(endpoint: &Endpoint, realm: &str, auth: &Auth) -> Result<Connection, Error> {
    let mut connection = match endpoint {
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Connection::tcp(stream)
        }
        Endpoint::Unix(path) => Connection::unix(UnixStream::connect(path).await?),
    };
    join(&mut connection, realm, auth).await?;
    Ok(connection)
}

/// Handshake and session over a connection that is there.
async fn join(connection: &mut Connection, realm: &str, auth: &Auth) -> Result<(), Error> {
    let pubkey = match auth {
        Auth::Cryptosign { key, .. } => Some(hex::encode(key.public_key().as_ref())),
        _ => None,
    };
    let (reader, writer) = connection.halves();
    // The HELLO goes with the handshake: a router that refuses the one does not read the other.
    writer.queue_octets(&rawsocket::client_handshake());
    let mut hello = Vec::new();
    session::hello(&mut hello, realm, auth.method(), auth.authid(), pubkey.as_deref());
    writer.queue_octets(&rawsocket::frame_head(rawsocket::FrameKind::Message, hello.len()));
    writer.queue_octets(&hello);
    writer.flush().await?;
    rawsocket::accepted(reader.octets().await?)?;
    loop {
        let message = reader.next().await?.ok_or(Error::Closed)?;
        match session::answer(&message)? {
            Step::Welcome(id) => {
                connection.joined(id);
                return Ok(());
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
