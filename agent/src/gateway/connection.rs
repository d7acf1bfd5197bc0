//! One client's connection: HTTP/1.1 by hyper, and what hyper leaves open.
//!
//! | the client | what happens |
//! |---|---|
//! | sends half a head and then nothing | 408 after 10 s |
//! | neither takes what lies ready nor sends anything | the connection ends after 30 s |
//! | is refused while it still sends | its answer, and what it sends is thrown away for a while: closed at once, the kernel would take the answer back |
//! | is gone, while nobody reads its body | is seen by those who ask (`socket.rs`) |
//!
//! Always: a connection ends with the listener that took it, after the request it is in.

use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::gateway::limits::{HEAD_MAX, HEAD_WITHIN};
use crate::gateway::route::{Routes, Scope};
use crate::gateway::socket::Socket;

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
    let socket = Socket::new(stream)?;
    let peer = socket.peer();
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
        .max_header_size(HEAD_MAX)
        .max_buf_size(HEAD_MAX);
    let mut connection = builder.serve_connection(TokioIo::new(socket), service);
    let served = tokio::select! {
        served = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => served,
        () = stop.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            let rest = std::future::poll_fn(|context| connection.poll_without_shutdown(context));
            match timeout(STOP_WITHIN, rest).await {
                Ok(served) => served,
                Err(_) => return Ok(()),
            }
        }
    };
    let mut socket = connection.into_parts().io.into_inner();
    match served {
        Ok(()) => linger(&mut socket, &stop).await,
        Err(error) if error.is_timeout() && socket.is_unanswered() => {
            socket.write_all(SLOW_HEAD).await?;
            linger(&mut socket, &stop).await;
        }
        // It said all it had to, in a status of its own.
        Err(error) if error.is_parse() => linger(&mut socket, &stop).await,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Says that no answer follows, and reads on until the client has read it.
async fn linger(socket: &mut Socket, stop: &CancellationToken) {
    let until_silent = async {
        socket.shutdown().await?;
        let mut thrown_away = vec![0; 16 << 10];
        while timeout(LINGER_PAUSE_MAX, socket.read(&mut thrown_away)).await?? > 0 {}
        anyhow::Ok(())
    };
    // However it ends, the connection does.
    let _ = stop.run_until_cancelled(timeout(LINGER_MAX, until_silent)).await;
}
