//! Dialling a peer: TCP from the agent's own address, TLS, the greeting.
//!
//! The source is the agent's own address: on loopback it would be 127.0.0.1 otherwise, and no filter could tell agents
//! apart. A connection whose peer does not acknowledge for [`UNACKNOWLEDGED`] is broken by the kernel, so that a cut
//! cable is seen before TCP's own patience of minutes ends, and mended soon after the cable is.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Error;
use super::class::Class;
use super::handshake::{self, Welcome};
use super::identity::Local;
use super::tls::Tls;

/// How long sent octets may go unacknowledged, as long as a node's lease.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// How much may lie in the kernel unsent, in bytes: what is urgent waits behind no more than this.
const UNSENT_MAX: libc::c_int = 128 * 1024;

/// How long TCP may take to connect. Longer ones are begun anew, since TCP itself waits longer and longer between its own
/// tries, and a cable that is mended would be noticed late.
const CONNECTED_WITHIN: Duration = Duration::from_millis(1500);

/// After so long without a word the kernel asks whether the peer is there, and again each second.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);

/// Between two askings.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);

/// Makes connections to other agents.
#[derive(Clone, Debug)]
pub struct Dialer {
    tls: Tls,
    local: Local,
    source: IpAddr,
}

impl Dialer {
    /// One that speaks for `local` from the address `source`.
    pub fn new(tls: Tls, local: Local, source: IpAddr) -> Dialer {
        Dialer { tls, local, source }
    }

    /// Who speaks.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// A connection of `class`, greeted; bounded by [`handshake::LIMIT`].
    pub async fn dial(
        &self,
        address: SocketAddr,
        class: Class,
    ) -> Result<(TlsStream<TcpStream>, Welcome), Error> {
        let dialled = async {
            let mut stream = self.secure(address, class).await?;
            let welcome = handshake::introduce(&mut stream, &self.local, class).await?;
            Ok((stream, welcome))
        };
        tokio::time::timeout(handshake::LIMIT, dialled)
            .await
            .unwrap_or(Err(Error::TimedOut(handshake::LIMIT)))
    }

    /// TCP and TLS, without a greeting.
    pub async fn secure(&self, address: SocketAddr, class: Class) -> Result<TlsStream<TcpStream>, Error> {
        let unreachable = |source| Error::Unreachable { address, source };
        let socket = self.socket(address).map_err(unreachable)?;
        let connecting = tokio::time::timeout(CONNECTED_WITHIN, socket.connect(address));
        let tcp = connecting
            .await
            .map_err(|_| Error::TimedOut(CONNECTED_WITHIN))?
            .map_err(unreachable)?;
        // Not looked at: verifiers judge members by their certificates' URI, whatever the address.
        let host = ServerName::IpAddress(address.ip().into());
        TlsConnector::from(self.tls.client(class))
            .connect(host, tcp)
            .await
            .map_err(Error::of_tls)
    }

    fn socket(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if self.source.is_ipv4() == address.is_ipv4() {
            // The port is chosen when the peer is known: else a source address has only one set of ports for all peers.
            set(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                1,
            )?;
            socket.bind(&SockAddr::from(SocketAddr::new(self.source, 0)))?;
        }
        prepare(&SockRef::from(&socket))?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }
}

/// What both ends of every mesh connection set.
pub fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    set(
        socket.as_raw_fd(),
        libc::IPPROTO_TCP,
        libc::TCP_NOTSENT_LOWAT,
        UNSENT_MAX,
    )?;
    set(
        socket.as_raw_fd(),
        libc::IPPROTO_TCP,
        libc::TCP_USER_TIMEOUT,
        UNACKNOWLEDGED.as_millis() as libc::c_int,
    )?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY);
    socket.set_tcp_keepalive(&keepalive.with_retries(3))
}

/// Sets an option that is a number and that socket2 does not know.
fn set(socket: RawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` lives across the call and has the size that is given.
    let done = unsafe { libc::setsockopt(socket, level, option, (&raw const value).cast(), size) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Asks the agent at `address` who it is, without using it for anything.
pub async fn ask(dialer: &Dialer, address: SocketAddr) -> Result<Welcome, Error> {
    let (mut stream, welcome) = dialer.dial(address, Class::Bulk).await?;
    // Its answer is all that was wanted; a goodbye that is not heard is seen as the end of the connection.
    let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
    Ok(welcome)
}
