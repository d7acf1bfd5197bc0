//! What `/pipe` is measured against: a minimal HTTP server that spawns an executable for each request, gives it the body
//! and answers with its output. What a CGI or a function's watchdog costs, with nothing around it.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Result;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::runtime::Runtime;

/// Octets of a body: the bench sends few.
const BODY_MAX: usize = 1 << 20;

/// A server that runs.
pub struct Server {
    runtime: Runtime,
    port: u16,
}

impl Server {
    /// Serves this executable on a port of loopback.
    pub fn start(executable: &Path) -> Result<Server> {
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let port = listener.local_addr()?.port();
        runtime.spawn(serve(listener, Arc::new(executable.to_owned())));
        Ok(Server { runtime, port })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it.
    pub fn stop(self) {
        self.runtime.shutdown_background();
    }
}

async fn serve(listener: TcpListener, executable: Arc<PathBuf>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let executable = executable.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(executable.clone(), request));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(executable: Arc<PathBuf>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let answered = match run(&executable, request).await {
        Ok(output) => Response::new(Body::from(output)),
        Err(error) => {
            let mut response = Response::new(Body::from(error.to_string()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    };
    Ok(answered)
}

async fn run(executable: &Path, request: Request<Incoming>) -> Result<Vec<u8>> {
    let body = axum::body::to_bytes(Body::new(request.into_body()), BODY_MAX).await?;
    let mut child = Command::new(executable)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&body).await?;
    }
    Ok(child.wait_with_output().await?.stdout)
}
