//! One client's connection: HTTP/1.1 by hyper, and what hyper leaves open.
//!
//! | the client | what happens |
//! |---|---|
//! | begins with a handshake, where there is a certificate | TLS, within 10 s |
//! | sends half a head and then nothing | 408 after 10 s |
//! | closes its side behind its request | its answer all the same |
//! | neither takes what lies ready nor sends anything | the connection ends after 30 s |
//! | is refused while it still sends | its answer, and what it sends is thrown away for a while: closed at once, the kernel would take the answer back |
//! | is gone, while nobody reads its body | is seen by those who ask (`socket.rs`) |
//!
//! Always: (1) a connection whose port goes ends after the request that it is in, however long that takes; (2) where the
//! agent stops, that is no longer than 2 s.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::doors::Visitor;
use crate::gateway::held::hold;
use crate::gateway::limits::{HEAD_MAX, HEAD_WITHIN};
use crate::gateway::route::{Routes, Scope};
use crate::gateway::socket::Socket;
use crate::gateway::stream::{Carrier, Stream};

/// How long what a client still sends is thrown away after its last answer, and how long it may pause meanwhile.
const LINGER_MAX: Duration = Duration::from_secs(10);
const LINGER_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long the request that a connection is in may go on when all is to stop.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// The first octet of a TLS handshake, and of no request.
const HANDSHAKE: u8 = 22;
/// What is said to who does not come to the end of a head.
const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n\
    connection: close\r\ncontent-length: 45\r\n\r\nthe request's head did not come in 10 seconds";

/// What a listener gives its connections.
#[derive(Clone)]
pub struct Endpoint {
    /// Whom it serves.
    pub scope: Scope,
    /// Who answers.
    pub routes: Routes,
    /// Its certificate, where it speaks TLS to those who begin so.
    pub tls: Option<Arc<ServerConfig>>,
    /// It takes no more requests.
    pub closing: CancellationToken,
    /// Neither does the agent.
    pub stopping: CancellationToken,
}

/// Serves a connection until it ends, or had to go for others.
pub async fn serve(stream: TcpStream, visitor: Visitor, endpoint: Endpoint) -> anyhow::Result<()> {
    let served = visitor.unless_ended(answer(stream, &visitor, endpoint));
    served.await.unwrap_or(Ok(()))
}

async fn answer(stream: TcpStream, visitor: &Visitor, endpoint: Endpoint) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let Some(stream) = endpoint.open(stream).await? else {
        return Ok(());
    };
    let (peer, is_asking) = (stream.peer(), visitor.handle());
    let Endpoint {
        scope,
        routes,
        closing,
        stopping,
        ..
    } = endpoint;
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (routes, scope, peer) = (routes.clone(), scope.clone(), peer.clone());
        let asking = is_asking.asks();
        Box::pin(async move {
            let response = routes.answer(scope, peer, request.map(Body::new)).await;
            Ok::<_, std::convert::Infallible>(response.map(|body| hold(body, asking)))
        })
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .half_close(true)
        .header_read_timeout(HEAD_WITHIN)
        .max_header_size(HEAD_MAX)
        .max_buf_size(HEAD_MAX);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let served = tokio::select! {
        served = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => served,
        () = closing.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            let too_long = async {
                stopping.cancelled().await;
                tokio::time::sleep(STOP_WITHIN).await;
            };
            let rest = std::future::poll_fn(|context| connection.poll_without_shutdown(context));
            tokio::select! {
                served = rest => served,
                () = too_long => return Ok(()),
            }
        }
    };
    let mut stream = connection.into_parts().io.into_inner();
    match served {
        Ok(()) => linger(&mut stream, &closing).await,
        Err(error) if error.is_timeout() && stream.is_unanswered() => {
            stream.write_all(SLOW_HEAD).await?;
            linger(&mut stream, &closing).await;
        }
        // It said all it had to, in a status of its own.
        Err(error) if error.is_parse() => linger(&mut stream, &closing).await,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

impl Endpoint {
    /// What the client speaks over; `None`: it said nothing.
    async fn open(&self, stream: TcpStream) -> anyhow::Result<Option<Stream>> {
        let Some(config) = &self.tls else {
            return Ok(Some(Stream::plain(Socket::new(stream, false)?)));
        };
        let first = async {
            let mut first = [0];
            let count = timeout(HEAD_WITHIN, stream.peek(&mut first)).await.ok()?;
            (count.ok()? > 0).then_some(first[0])
        };
        let Some(Some(first)) = self.closing.run_until_cancelled(first).await else {
            return Ok(None);
        };
        let is_secure = first == HANDSHAKE;
        let socket = Socket::new(stream, is_secure)?;
        if !is_secure {
            return Ok(Some(Stream::plain(socket)));
        }
        let peer = socket.peer();
        let accepted = TlsAcceptor::from(config.clone()).accept(socket);
        let accepted = timeout(HEAD_WITHIN, accepted).await??;
        Ok(Some(Stream::new(Carrier::Tls(Box::new(accepted)), peer)))
    }
}

/// Says that no answer follows, and reads on until the client has read it.
async fn linger(stream: &mut Stream, stop: &CancellationToken) {
    let until_silent = async {
        stream.shutdown().await?;
        let mut thrown_away = vec![0; 16 << 10];
        while timeout(LINGER_PAUSE_MAX, stream.read(&mut thrown_away)).await?? > 0 {}
        anyhow::Ok(())
    };
    // However it ends, the connection does.
    let _ = stop.run_until_cancelled(timeout(LINGER_MAX, until_silent)).await;
}
