//! Registers the procedures and answers their calls.

use std::sync::Arc;

use futures::future::BoxFuture;
use pipes_protocol::uris;
use pipes_wamp::client::Session;
use pipes_wamp::payload::PayloadBuf;
use tokio::sync::Semaphore;

use crate::api::arguments::Arguments;
use crate::api::procedures::{Function, Once, PROCEDURES, Right};
use crate::api::{Answer, Api, Error, reach, streaming};
use crate::lifecycle::Kind;
use pipes_router::OwnSession;

/// Ordinary calls that are answered at once; more wait in the session's queue, and their callers with them.
const CALLS_MAX: usize = 512;
/// New streaming calls that wait to be taken up; beyond, the router answers that nobody is available.
const STREAMS_WAITING_MAX: usize = 1_024;

/// Registers everything; returns when all of it can be called. The sessions are the agent's in each realm.
pub(super) async fn register(api: &Arc<Api>, operators: &Session, agents: &Session) -> anyhow::Result<()> {
    for procedure in PROCEDURES {
        let (realm, session, uri) = match procedure.right {
            Right::Operators => (uris::REALM_OPERATORS, operators, procedure.uri.to_owned()),
            Right::Agents => {
                let uri = uris::of_node(api.nodes.own_id(), procedure.uri);
                (uris::REALM_STAGES, agents, uri)
            }
        };
        match procedure.function {
            Function::Once(once) => serve_calls(api, session, &uri, procedure.uri, once).await?,
            Function::Stream(stream) => serve_streams(api, realm, &uri, stream),
        }
    }
    Ok(())
}

/// Registers one ordinary procedure and answers its calls, many at once.
async fn serve_calls(
    api: &Arc<Api>,
    session: &Session,
    uri: &str,
    procedure: &'static str,
    once: Once,
) -> anyhow::Result<()> {
    let mut registration = session.register(uri).await?;
    let api = api.clone();
    let lifecycle = api.lifecycle.clone();
    let stopping = lifecycle.stopping();
    let room = Arc::new(Semaphore::new(CALLS_MAX));
    lifecycle.clone().spawn(Kind::Part, "procedure", async move {
        while let Some(Some(mut invocation)) = stopping.run_until_cancelled(registration.next()).await {
            let Ok(place) = room.clone().acquire_owned().await else {
                break;
            };
            let (payload, token) = (std::mem::take(&mut invocation.payload), invocation.token.take());
            let answered = answer(api.clone(), procedure, once, payload, token);
            lifecycle.spawn(Kind::Work, "call", async move {
                // A caller that is gone needs no answer.
                let _ = match answered.await {
                    Ok(answer) => invocation.answer(answer.encode()).await,
                    Err(error) => {
                        invocation
                            .fail(error.uri(), PayloadBuf::of_values(error.arguments(), None))
                            .await
                    }
                };
                drop(place);
                Ok(())
            });
        }
        Ok(())
    });
    Ok(())
}

/// Answers a call, as far as its caller's reach goes.
async fn answer(
    api: Arc<Api>,
    procedure: &'static str,
    once: Once,
    payload: PayloadBuf,
    token: Option<String>,
) -> Result<Answer, Error> {
    let mut arguments = Arguments::of(payload.as_payload())?;
    reach::admit(&api, procedure, token.as_deref(), &mut arguments).await?;
    let caller = arguments.caller.clone();
    let answer = once(api, arguments).await?;
    Ok(reach::narrowed(procedure, caller.as_ref(), answer))
}

/// Takes up the sessions of a procedure that has one for each call.
fn serve_streams(
    api: &Arc<Api>,
    realm: &str,
    uri: &str,
    stream: fn(Arc<Api>, OwnSession) -> BoxFuture<'static, ()>,
) {
    let mut sessions = api.router.serve_calls(realm, uri, STREAMS_WAITING_MAX);
    let api = api.clone();
    let lifecycle = api.lifecycle.clone();
    let stopping = lifecycle.stopping();
    lifecycle
        .clone()
        .spawn(Kind::Part, "streaming procedure", async move {
            while let Some(Some(own)) = stopping.run_until_cancelled(sessions.recv()).await {
                let streamed = stream(api.clone(), own);
                lifecycle.spawn(Kind::Work, "streaming call", async move {
                    streamed.await;
                    Ok(())
                });
            }
            // Who came in the last moment asks another agent.
            sessions.close();
            while let Some(own) = sessions.recv().await {
                if let Some((_, caller, ..)) = streaming::greet(own.stream).await {
                    caller.end(Err(Error::Stopping)).await;
                }
            }
            Ok(())
        });
}
