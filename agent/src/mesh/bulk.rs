//! Bulk: what is large goes over connections of its own, one thing at a time.
//!
//! ```text
//! dialler                                listener
//! Request::Put { digest, size }    ->
//!                                  <-    Answer::Send | Answer::Have
//! body: frames of raw bytes        ->
//!                                  <-    Answer::Done | Answer::Failed { reason }
//! Request::Get { digest }          ->
//!                                  <-    Answer::Found { size }, body | Answer::Absent
//! Request::Has { digest }          ->    also Awaits: is its name awaited?
//!                                  <-    Answer::Have | Answer::Absent
//! Request::Delete { digest }       ->
//!                                  <-    Answer::Done | Answer::Have, where nobody collects it
//! Request::Call { size }, body     ->
//!                                  <-    Answer::Found { size }, body        (a call of the store)
//! ```
//!
//! Always: (1) a body has exactly the size that was said, or the connection breaks: what is cut short is never taken for
//! whole; (2) at most [`CONNECTIONS_MAX`] to one peer, the next wait; (3) a peer that moves nothing for [`STALLED`] is
//! given up; (4) a connection that is idle for [`IDLE`] is closed. Which blobs there are is `blob`'s business.

use std::collections::HashMap;
use std::future::Future;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::class::Class;
use super::frame::{self, HEAD, PIECE_MAX};
use super::link::Failure;
use super::{Dialer, Error};
use crate::lifecycle::{Kind, Lifecycle};

/// Connections to one peer at once: one that waits for a disk leaves others to go on.
pub const CONNECTIONS_MAX: usize = 4;

/// How long a peer may move nothing before it is given up: longer than a disk under load takes to fsync a blob.
pub const STALLED: Duration = Duration::from_secs(30);

/// How long the dialler keeps a connection for the next use. The listener's patience is longer ([`PATIENCE`]), so that
/// a connection does not end just as it is used.
pub const IDLE: Duration = Duration::from_secs(20);

/// How long the listener waits for a next request.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The longest request or answer of the store, which cuts what is longer (a snapshot) into pieces of its own.
pub const CALL_MAX: u64 = 64 * 1024 * 1024;

/// What is asked. Grows at its end only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// A call of the store; its body follows.
    Call {
        /// Bytes of the body.
        size: u64,
    },
    /// Keep this blob; its body follows once it is asked for.
    Put {
        /// SHA-256 of the body.
        digest: [u8; 32],
        /// Bytes of the body.
        size: u64,
    },
    /// Send this blob.
    Get {
        /// Its SHA-256.
        digest: [u8; 32],
    },
    /// Is this blob there, fsynced?
    Has {
        /// Its SHA-256.
        digest: [u8; 32],
    },
    /// Do you expect this blob to be named?
    Awaits {
        /// Its SHA-256.
        digest: [u8; 32],
    },
    /// Delete this blob, if it is being collected.
    Delete {
        /// Its SHA-256.
        digest: [u8; 32],
    },
}

/// What is answered. Grows at its end only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The blob is there, fsynced.
    Have,
    /// Send the body.
    Send,
    /// The body was kept, fsynced.
    Done,
    /// The body follows.
    Found {
        /// Its bytes.
        size: u64,
    },
    /// No such blob here.
    Absent,
    /// It could not be done.
    Failed {
        /// In words.
        reason: String,
    },
}

/// One end of a connection of class Bulk.
pub struct Channel<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// Over a stream that was greeted.
    pub fn new(stream: S) -> Channel<S> {
        Channel {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends a request or an answer.
    pub async fn say(&mut self, value: &impl Serialize) -> Result<(), Error> {
        in_time(frame::write(&mut self.stream, value)).await
    }

    /// Reads a request or an answer; `None` where the peer closed in order.
    pub async fn hear<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<Option<T>, Error> {
        let read = frame::read(&mut self.stream, &mut self.buffer);
        match tokio::time::timeout(patience, read).await {
            Ok(Ok(true)) => frame::decode(&self.buffer).map(Some),
            Ok(Ok(false)) => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::TimedOut(patience)),
        }
    }

    async fn answer(&mut self) -> Result<Answer, Error> {
        let answer = self.hear(STALLED).await?;
        answer.ok_or(Error::Gone)
    }

    /// Sends `size` bytes of `source`, which has them or the connection breaks.
    pub async fn send_body<R: AsyncRead + Unpin>(&mut self, size: u64, source: &mut R) -> Result<(), Error> {
        let mut left = size;
        self.buffer.resize(HEAD + PIECE_MAX, 0);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_MAX);
            let length = source.read(&mut self.buffer[HEAD..HEAD + most]).await?;
            if length == 0 {
                return Err(Error::Broken(std::io::Error::other(
                    "the source ended before its size",
                )));
            }
            // At most PIECE_MAX, far within u32.
            self.buffer[..HEAD].copy_from_slice(&(length as u32).to_le_bytes());
            let written = self.stream.write_all(&self.buffer[..HEAD + length]);
            in_time(async { written.await.map_err(Error::of_tls) }).await?;
            left -= length as u64;
        }
        in_time(async { self.stream.flush().await.map_err(Error::of_tls) }).await
    }

    /// The next bytes of a body of which `left` are to come; `left` is lowered.
    pub async fn body<'a>(&'a mut self, left: &mut u64) -> Result<&'a [u8], Error> {
        let read = in_time(frame::read(&mut self.stream, &mut self.buffer)).await?;
        let length = self.buffer.len() as u64;
        if !read || length == 0 || length > *left {
            let why = format!("a body of which {left} bytes were to come goes on with {length}");
            return Err(Error::Malformed(why));
        }
        *left -= length;
        Ok(&self.buffer)
    }

    /// A whole body, of at most `limit` bytes.
    pub async fn whole_body(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, Error> {
        if size > limit {
            let to_usize = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
            return Err(Error::TooLong {
                length: to_usize(size),
                limit: to_usize(limit),
            });
        }
        let (mut left, mut whole) = (size, Vec::new());
        while left > 0 {
            whole.extend_from_slice(self.body(&mut left).await?);
        }
        Ok(whole)
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(STALLED, step)
        .await
        .unwrap_or(Err(Error::TimedOut(STALLED)))
}

type Connection = Channel<TlsStream<TcpStream>>;

struct Rested {
    connection: Connection,
    node: u64,
    since: Instant,
}

struct Peer {
    rested: Vec<Rested>,
    slots: Arc<Semaphore>,
}

/// Connections to all peers, shared by whoever has something large for them. Clones are the same one.
#[derive(Clone)]
pub struct Client {
    dialer: Dialer,
    lifecycle: Lifecycle,
    runtime: Handle,
    peers: Arc<Mutex<HashMap<SocketAddr, Peer>>>,
}

/// A connection in use; given back by [`Lease::keep`], closed otherwise.
struct Lease {
    client: Client,
    address: SocketAddr,
    node: u64,
    connection: Connection,
    _slot: OwnedSemaphorePermit,
}

/// A blob on its way here. Dropped before its end, it closes its connection.
pub struct Body {
    lease: Lease,
    size: u64,
    left: u64,
}

impl Body {
    /// Bytes of the whole.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.lease.connection.body(&mut self.left).await.map(Some)
    }

    /// Gives the connection back after the last bytes.
    pub fn end(self) {
        if self.left == 0 {
            // What is given back without a value cannot fail.
            let _ = self.lease.keep(());
        }
    }
}

impl Client {
    /// Connections that live on `runtime`, which should not be the store's.
    pub fn new(dialer: Dialer, lifecycle: &Lifecycle, runtime: Handle) -> Client {
        Client {
            dialer,
            lifecycle: lifecycle.clone(),
            runtime,
            peers: Arc::default(),
        }
    }

    /// Whether the peer has a blob, fsynced.
    pub async fn has(&self, address: SocketAddr, digest: [u8; 32]) -> Result<bool, Error> {
        self.ask(address, Request::Has { digest }).await
    }

    /// Whether the peer expects a blob to be named.
    pub async fn awaits(&self, address: SocketAddr, digest: [u8; 32]) -> Result<bool, Error> {
        self.ask(address, Request::Awaits { digest }).await
    }

    async fn ask(&self, address: SocketAddr, request: Request) -> Result<bool, Error> {
        let mut lease = self.lease(address).await?;
        lease.connection.say(&request).await?;
        match lease.connection.answer().await? {
            Answer::Have => lease.keep(true),
            Answer::Absent => lease.keep(false),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the peer delete a blob, unless nobody collects it.
    pub async fn delete(&self, address: SocketAddr, digest: [u8; 32]) -> Result<(), Error> {
        let mut lease = self.lease(address).await?;
        lease.connection.say(&Request::Delete { digest }).await?;
        match lease.connection.answer().await? {
            Answer::Done | Answer::Have => lease.keep(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the peer keep a blob: when this returns it has fsynced it.
    pub async fn put<R: AsyncRead + Unpin>(
        &self,
        address: SocketAddr,
        digest: [u8; 32],
        size: u64,
        source: &mut R,
    ) -> Result<(), Error> {
        let mut lease = self.lease(address).await?;
        lease.connection.say(&Request::Put { digest, size }).await?;
        match lease.connection.answer().await? {
            Answer::Have => return lease.keep(()),
            Answer::Send => {}
            other => return Err(unexpected(&other)),
        }
        lease.connection.send_body(size, source).await?;
        match lease.connection.answer().await? {
            Answer::Done => lease.keep(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Fetches a blob; `None` where the peer has none. Unchecked: who reads the body is to check it.
    pub async fn fetch(&self, address: SocketAddr, digest: [u8; 32]) -> Result<Option<Body>, Error> {
        let mut lease = self.lease(address).await?;
        lease.connection.say(&Request::Get { digest }).await?;
        match lease.connection.answer().await? {
            Answer::Found { size } => Ok(Some(Body {
                lease,
                size,
                left: size,
            })),
            Answer::Absent => lease.keep(None),
            other => Err(unexpected(&other)),
        }
    }

    /// A call of the store, made on this client's runtime whatever the caller's.
    pub async fn call(&self, address: SocketAddr, node: u64, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let (client, request) = (self.clone(), request.to_vec());
        let (answer, answered) = oneshot::channel();
        self.lifecycle
            .spawn_on(&self.runtime, Kind::Work, "bulk call", async move {
                // A caller that has gone needs no answer.
                let _ = answer.send(client.call_here(address, node, &request).await);
                Ok(())
            });
        answered
            .await
            .unwrap_or_else(|_| Err(Failure::Unknown("the agent stops".to_owned())))
    }

    async fn call_here(&self, address: SocketAddr, node: u64, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let size = request.len() as u64;
        if size > CALL_MAX {
            return Err(Failure::NotSent(format!(
                "a request of {size} bytes, {CALL_MAX} is the most"
            )));
        }
        let mut lease = self
            .lease(address)
            .await
            .map_err(|error| Failure::NotSent(error.to_string()))?;
        if node != 0 && lease.node != 0 && node != lease.node {
            return Err(Failure::NotSent(format!("node {} is there now", lease.node)));
        }
        let exchange = async {
            lease.connection.say(&Request::Call { size }).await?;
            let mut body = request;
            lease.connection.send_body(size, &mut body).await?;
            match lease.connection.answer().await? {
                Answer::Found { size } => lease.connection.whole_body(size, CALL_MAX).await,
                other => Err(unexpected(&other)),
            }
        };
        let answer = exchange
            .await
            .map_err(|error| Failure::Unknown(error.to_string()))?;
        lease
            .keep(answer)
            .map_err(|error| Failure::Unknown(error.to_string()))
    }

    async fn lease(&self, address: SocketAddr) -> Result<Lease, Error> {
        let slots = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Peer {
                rested: Vec::new(),
                slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            };
            Arc::clone(&peers.entry(address).or_insert_with(new).slots)
        };
        let closed = |_| Error::Broken(std::io::Error::other("the agent stops"));
        let slot = slots.acquire_owned().await.map_err(closed)?;
        let rested = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            peers.get_mut(&address).and_then(|peer| {
                peer.rested.retain(|rested| rested.is_usable());
                peer.rested.pop()
            })
        };
        let (connection, node) = match rested {
            Some(rested) => (rested.connection, rested.node),
            None => {
                let (stream, welcome) = self.dialer.dial(address, Class::Bulk).await?;
                (Channel::new(stream), welcome.node)
            }
        };
        Ok(Lease {
            client: self.clone(),
            address,
            node,
            connection,
            _slot: slot,
        })
    }

    /// Closes what has rested for [`IDLE`]; ends when nothing rests.
    async fn sweep(self) -> anyhow::Result<()> {
        let stopping = self.lifecycle.stopping();
        let waits = async {
            loop {
                tokio::time::sleep(IDLE / 2).await;
                let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
                for peer in peers.values_mut() {
                    peer.rested.retain(|rested| rested.since.elapsed() < IDLE);
                    peer.rested.shrink_to_fit();
                }
                if peers.values().all(|peer| peer.rested.is_empty()) {
                    return;
                }
            }
        };
        stopping.run_until_cancelled(waits).await;
        Ok(())
    }
}

impl Lease {
    /// Gives the connection back for the next use, and `value` on.
    fn keep<T>(self, value: T) -> Result<T, Error> {
        let Lease {
            client,
            address,
            node,
            mut connection,
            _slot,
        } = self;
        connection.buffer = Vec::new();
        let mut peers = client.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let none_rested = peers.values().all(|peer| peer.rested.is_empty());
        if let Some(peer) = peers.get_mut(&address) {
            peer.rested.push(Rested {
                connection,
                node,
                since: Instant::now(),
            });
        }
        drop(peers);
        if none_rested {
            let sweeper = client.clone();
            client
                .lifecycle
                .spawn_on(&client.runtime, Kind::Work, "bulk sweep", sweeper.sweep());
        }
        Ok(value)
    }
}

impl Rested {
    /// Whether the peer has neither closed it nor said anything unasked.
    fn is_usable(&self) -> bool {
        let socket = socket2::SockRef::from(self.connection.stream.get_ref().0);
        let mut octet = [MaybeUninit::uninit()];
        let read = socket.recv_with_flags(&mut octet, libc::MSG_PEEK | libc::MSG_DONTWAIT);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

fn unexpected(answer: &Answer) -> Error {
    match answer {
        Answer::Failed { reason } => Error::Refused(reason.clone()),
        other => Error::Malformed(format!("{other:?} is no answer to what was asked")),
    }
}
