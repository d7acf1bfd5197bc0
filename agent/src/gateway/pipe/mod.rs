//! `POST /pipe`: a run whose stdin is the request's body and whose stdout is the answer's. No job, no record but a run's.
//!
//! ```text
//! client --body--> stdio.rs --[bytes] under credit--> pipes.run.start
//! client <-answer.rs-- output.rs <--[1, bytes] under credit--
//!                         |  ^
//!                       spool.rs   while a client sends and does not read
//!
//! head    at the first byte: 200, Pipes-Run          at the exit before one: 200 or 502, Pipes-Status
//! end     0: the body's end     another status: Pipes-Status as a trailer, or the body broken off     lost: broken off
//! ```
//!
//! A task of its own moves the bytes, since an answer is asked for only as its client reads, and most clients
//! send all before they read.
//!
//! Always: (1) input never waits for output while there is input to come; (2) a body that ended is the whole output of a
//! run that came to what the head or the trailer says; (3) a client that goes takes the run with it.

mod answer;
mod output;
mod request;
mod spool;
mod stdio;

pub use spool::empty;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, EXPECT, TE, TRAILER};
use axum::http::{HeaderValue, Version};
use axum::response::{IntoResponse, Response};
use pipes_protocol::uris;
use rmpv::Value;
use tokio::sync::{mpsc, oneshot};

use crate::gateway::asked::{Asked, Gateway};
use crate::gateway::body::Incoming;
use crate::gateway::error::Error;
use crate::gateway::headers::{self, PIPES_RUN, PIPES_STATUS};
use crate::gateway::pipe::answer::{Answer, Piece};
use crate::gateway::pipe::output::Output;
use crate::gateway::pipe::spool::Spool;
use crate::gateway::pipe::stdio::{Head, Stdio};
use crate::gateway::session::Session;
use crate::lifecycle::Kind;

/// Pieces that wait for the client: each is what one read of a pipe gave.
const PIECES_MAX: usize = 1;

/// A body of at most so many bytes goes with the call: fewer than a hop holds at first.
const WHOLE_MAX: u64 = 32 << 10;

/// Serves one request.
pub async fn serve(
    State(gateway): State<Gateway>,
    Extension(asked): Extension<Asked>,
    request: Request,
) -> Result<Response, Error> {
    asked.refuse_if_stopped()?;
    let (head, body) = request.into_parts();
    let workflow = &asked.workflow;
    let mut body = Some(Incoming::new(&head.headers, body, workflow)?);
    // hyper sends trailers to who says this and nothing more.
    let takes_trailers = head.headers.get(TE).is_some_and(|value| value == "trailers");
    let takes_trailers = takes_trailers && head.version == Version::HTTP_11;
    let mut session = Session::open(&gateway.router)?;
    let mut kwargs = request::of(workflow);
    let is_short = |body: &mut Incoming| body.length().is_some_and(|length| length <= WHOLE_MAX);
    // Who waits to be told to send is told so when the run was accepted.
    if !head.headers.contains_key(EXPECT)
        && let Some(mut body) = body.take_if(is_short)
    {
        kwargs.extend([
            ("stdin", Value::Binary(body.whole().await?)),
            ("eof", true.into()),
        ]);
    }
    session.begin(uris::RUN_START, kwargs, false);
    let (to_handler, told) = oneshot::channel();
    let (pieces, taken) = mpsc::channel(PIECES_MAX);
    let most = workflow.definition.options.body_max();
    let stdio = Stdio {
        session,
        input: stdio::Input::new(body),
        output: Output::new(Spool::new(gateway.spool.clone(), most, &workflow.name)),
        to_handler: Some(to_handler),
        pieces,
        run: None,
        look_at: tokio::time::Instant::now(),
        peer: asked.peer.clone(),
        takes_trailers,
        // There an end without a length is all that says where a body ends.
        ends_by_closing: head.version < Version::HTTP_11,
    };
    let stopping = gateway.lifecycle.stopping();
    gateway
        .lifecycle
        .spawn(Kind::Work, "pipe of a workflow", async move {
            // Cut off, it breaks the answer off.
            stopping.run_until_cancelled(stdio.run()).await;
            Ok(())
        });
    let stopped = || Error::Unavailable("the agent is stopping; ask another".into());
    let head = told.await.unwrap_or_else(|_| Err(stopped()))?;
    respond(head, taken, takes_trailers)
}

/// The answer with this head, and a body of these pieces where it has begun.
fn respond(head: Head, pieces: mpsc::Receiver<Piece>, takes_trailers: bool) -> Result<Response, Error> {
    let (run, mut response) = match head {
        Head::Begun { run } => {
            let mut response = Response::new(Body::new(Answer::new(pieces)));
            if takes_trailers {
                response
                    .headers_mut()
                    .insert(TRAILER, HeaderValue::from_static("pipes-status"));
            }
            (run, response)
        }
        Head::Over(run) if run.exit == Some(0) => {
            let mut response = ().into_response();
            response.headers_mut().insert(PIPES_STATUS, HeaderValue::from(0));
            (Some(run.id), response)
        }
        Head::Over(run) => return Err(stdio::failed(&run)),
    };
    let headers = response.headers_mut();
    headers::of_result(headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.extend(run.and_then(|run| Some((PIPES_RUN, HeaderValue::from_str(&run).ok()?))));
    Ok(response)
}
