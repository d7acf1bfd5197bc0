//! HTTP of daemon workflows, on every agent: from a client's request to calls of `pipes.run.start` and `pipes.job.*`.
//!
//! The story of `curl -d query=some_data http://127.77.0.2:7100/`, and where each part of it is told:
//!
//! ```text
//! 1  port 7100 is listened on since the workflow has it          listen.rs
//! 2  the head is read, in time and no longer than heads are      connection.rs, stream.rs, socket.rs
//! 3  whose is it, may it, is there a place for it                route.rs, access.rs, limits.rs
//! 4  the body is read as it comes, a form is unpacked            body.rs, form.rs, jobs/input.rs
//! 5  it goes to pipes.job.submit on a session of its own         jobs/submit.rs, session.rs
//! 6  202 and the ID; or why not, in a sentence                   error.rs, headers.rs
//! ```
//!
//! What is answered: `jobs/` (queries, jobs, results), `pipe/` (a run, streamed), `health.rs`.
//!
//! The gateway is a client of its agent's router as any program of a user's could be, and has no other way into it. Bodies
//! stream, with back-pressure, and never lie whole in memory.
//!
//! Always: (1) what is refused is refused before its body is asked for; (2) each limit has an answer of its own; (3) an
//! answer that was broken off is never taken for a whole one.

mod access;
mod asked;
mod body;
mod connection;
mod error;
mod form;
mod headers;
mod health;
mod held;
mod jobs;
mod limits;
pub mod listen;
mod pipe;
mod route;
mod session;
mod socket;
mod stream;

use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use pipes_router::Router;

use crate::doors::Doors;
use crate::lifecycle::{Kind, Lifecycle};
use crate::workflow::daemon::known::Workflows;

pub use asked::Unready;
pub use listen::{Authority, Endpoints};

/// What the gateway works with.
pub struct Parts {
    /// Where workflows' own ports are, unless they say otherwise.
    pub address: IpAddr,
    /// The common port, bound already.
    pub listener: TcpListener,
    /// Makes certificates for those who want them.
    pub authority: Authority,
    /// Folder of files that lie aside; what is in it is removed.
    pub spool: PathBuf,
    /// The workflows there are.
    pub workflows: Workflows,
    /// Why one of them cannot be served, beside its wish.
    pub unready: Unready,
    /// Which endpoints are down: written here, shown elsewhere.
    pub endpoints: Endpoints,
    /// Gives sessions.
    pub router: Router,
    /// Where tasks run.
    pub lifecycle: Lifecycle,
}

/// Serves from now on, until the agent stops.
pub fn start(parts: Parts) -> anyhow::Result<()> {
    let Parts {
        address,
        listener,
        authority,
        spool,
        workflows,
        unready,
        endpoints,
        router,
        lifecycle,
    } = parts;
    pipe::empty(&spool).with_context(|| format!("cannot make {}", spool.display()))?;
    let routes = route::Routes::new(asked::Gateway {
        router,
        workflows: workflows.clone(),
        unready,
        limits: limits::Limits::default(),
        spool: Arc::new(spool),
        lifecycle: lifecycle.clone(),
    });
    let ports = listen::Ports {
        address,
        routes,
        endpoints,
        authority,
        lifecycle: lifecycle.clone(),
        doors: Doors::default(),
    };
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let tls = ports.own_tls();
    // Closed with the agent: nobody waits for it.
    drop(ports.serve(listener, route::Scope::All, tls, lifecycle.stopping()));
    lifecycle.spawn(Kind::Part, "workflows' ports", ports.follow(workflows));
    Ok(())
}
