//! WAMP over TLS: the agent proves itself by its node's certificate, before its client says who it is.
//!
//! ```text
//! router    accepts at 7072, sees TLS begin -> here: the handshake, within 5 s
//! router <- one half of a socket pair, and what the channel is called by both of its ends (RFC 9266)
//! client <-> TLS <-> the other half         as long as both live
//! ```
//!
//! What a client signs covers the channel (`pipes_router`, authentication): whoever sits on a dead agent's address has
//! another channel to the client than to the agent he would pass its proof on to.

use std::net::IpAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pipes_router::{Handshaking, Router, Secured};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::doors::{Door, Doors, Visitor};
use crate::lifecycle::{Kind, Lifecycle};

/// Clients that are handed over and not looked at yet.
const HANDED_OVER_MAX: usize = 64;
/// Handshakes at once, a quarter of them from one address.
const HANDSHAKES_MAX: usize = 1_000;
/// How long one may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How long a client may take to take the end of it.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Ends TLS for the clients that are handed over, until the agent stops.
pub fn start(tls: Arc<ServerConfig>, router: &Router, lifecycle: &Lifecycle) -> mpsc::Sender<Handshaking> {
    let (handed_over, clients) = mpsc::channel(HANDED_OVER_MAX);
    let served = serve(clients, tls, router.clone(), lifecycle.clone());
    lifecycle.spawn_until_stop("clients over TLS", served);
    handed_over
}

async fn serve(
    mut clients: mpsc::Receiver<Handshaking>,
    tls: Arc<ServerConfig>,
    router: Router,
    lifecycle: Lifecycle,
) -> anyhow::Result<()> {
    let door = Doors::default().open(HANDSHAKES_MAX);
    while let Some(client) = clients.recv().await {
        let (acceptor, router, door) = (TlsAcceptor::from(tls.clone()), router.clone(), door.clone());
        let stopping = lifecycle.stopping();
        lifecycle.spawn(Kind::Connection, "a client over TLS", async move {
            let carried = carry(client, &acceptor, &router, &door);
            stopping.run_until_cancelled(carried).await.unwrap_or(Ok(()))
        });
    }
    Ok(())
}

async fn carry(
    client: Handshaking,
    acceptor: &TlsAcceptor,
    router: &Router,
    door: &Door,
) -> anyhow::Result<()> {
    let loopback = client.loopback;
    let stream = TcpStream::from_std(client.stream)?;
    let address = stream.peer_addr()?.ip();
    let tls = proved(stream, acceptor, door.enter(address)).await?;
    let plain = enter(&tls, router, loopback, address)?;
    join(tls, plain).await;
    Ok(())
}

/// Carries what passes until the router has ended the session: a client that stays is not waited for.
async fn join(tls: impl AsyncRead + AsyncWrite, plain: UnixStream) {
    let (mut from_client, mut to_client) = tokio::io::split(tls);
    let (mut from_router, mut to_router) = plain.into_split();
    // However one of them ends, both ends see it; who was cut off in the middle is no news.
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_router).await;
        let _ = to_router.shutdown().await;
        std::future::pending::<()>().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_router, &mut to_client).await;
        let _ = timeout(CLOSE_WITHIN, to_client.shutdown()).await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// The handshake, for as long as this one need not go for others.
async fn proved(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    visitor: Visitor,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let accepted = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream));
    let accepted = visitor.unless_ended(accepted).await;
    let accepted = accepted.context("its handshake had to go for others")?;
    Ok(accepted.context("its handshake took too long")??)
}

/// Hands one half of a pair to the router.
fn enter(
    tls: &TlsStream<TcpStream>,
    router: &Router,
    loopback: bool,
    address: IpAddr,
) -> anyhow::Result<UnixStream> {
    let channel = pipes_membership::channel_of(tls.get_ref().1)?;
    let (near, far) = StdUnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    router.enter_secured(
        near,
        Secured {
            loopback,
            address,
            channel,
        },
    );
    Ok(UnixStream::from_std(far)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn a_client_that_stays_silent_goes_with_its_session() {
        let (client, tls) = tokio::io::duplex(1 << 10);
        let (plain, router) = UnixStream::pair().unwrap();
        let joined = tokio::spawn(join(tls, plain));
        drop(router);
        timeout(HANDSHAKE_WITHIN, joined).await.unwrap().unwrap();
        drop(client);
    }

    #[tokio::test]
    async fn a_client_that_says_no_more_hears_what_is_left() {
        let (mut client, tls) = tokio::io::duplex(1 << 10);
        let (plain, mut router) = UnixStream::pair().unwrap();
        let joined = tokio::spawn(join(tls, plain));
        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        router.read_to_end(&mut asked).await.unwrap();
        router.write_all(b"answer").await.unwrap();
        drop(router);
        let mut answered = Vec::new();
        client.read_to_end(&mut answered).await.unwrap();
        joined.await.unwrap();
        assert_eq!(
            (asked.as_slice(), answered.as_slice()),
            (&b"ask"[..], &b"answer"[..])
        );
    }
}
