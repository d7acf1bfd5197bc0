//! From procedures' names to the functions that answer them.
//!
//! Ordinary procedures share one session and answer once. Those that stream have a session for each call, so that a
//! caller who does not read stops nobody else.

use std::sync::Arc;

use pipes_wamp::client::{Invocation, Session};
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;
use tokio::sync::Semaphore;

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, cluster, logs, node, run, service, store, token, upload, uris};
use crate::lifecycle::Kind;
use crate::workflow::coordinator;

/// Ordinary calls that are answered at once; more wait in the session's queue, and their callers with them.
const CALLS_MAX: usize = 512;
/// New streaming calls that wait to be taken up; beyond, the router answers that nobody is available.
const STREAMS_WAITING_MAX: usize = 1_024;

/// What every ordinary procedure is given and gives.
type Answer = Result<Value, Error>;

/// Registers everything; returns when all of it can be called.
pub(super) async fn register(api: &Arc<Api>, operators: &Session, agents: &Session) -> anyhow::Result<()> {
    for uri in ORDINARY {
        serve_calls(api, operators, uri.to_string()).await?;
    }
    for procedure in OF_NODE {
        serve_calls(api, agents, uris::of_node(api.nodes.own_id(), procedure)).await?;
    }
    for uri in [uris::RUN_START, uris::RUN_LOGS, uris::SERVICE_PUT, uris::BLOB_PUT] {
        serve_streams(api, uri);
    }
    Ok(())
}

const ORDINARY: &[&str] = &[
    uris::RUN_LIST,
    uris::RUN_GET,
    uris::RUN_STOP,
    uris::SERVICE_LIST,
    uris::SERVICE_GET,
    uris::SERVICE_REMOVE,
    uris::BLOB_HAS,
    uris::NODE_LIST,
    uris::CLUSTER_STATUS,
    uris::CLUSTER_SET,
    uris::TOKEN_CREATE,
    uris::TOKEN_LIST,
    uris::TOKEN_REMOVE,
    uris::STORE_RANGE,
    uris::STORE_TXN,
];

/// Procedures of one node, for other agents: its own runs, and what concerns them.
const OF_NODE: &[&str] = &["runs", "run.stop", "run.logs", "executor.freed"];

async fn answer(api: &Api, uri: &str, invocation: &Invocation) -> Answer {
    let payload = invocation.payload.as_payload();
    let mut arguments = Arguments::of(payload)?;
    match uri {
        uris::RUN_LIST => run::list(api, &mut arguments).await,
        uris::RUN_GET => run::get(api, &mut arguments).await,
        uris::RUN_STOP => run::stop(api, &mut arguments).await,
        uris::SERVICE_LIST => service::list(api).await,
        uris::SERVICE_GET => service::get(api, &mut arguments).await,
        uris::SERVICE_REMOVE => service::remove(api, &mut arguments).await,
        uris::BLOB_HAS => upload::has(api, &mut arguments).await,
        uris::NODE_LIST => node::list(api).await,
        uris::CLUSTER_STATUS => cluster::status(api).await,
        uris::CLUSTER_SET => cluster::set(api, &mut arguments).await,
        uris::TOKEN_CREATE => token::create(api, &mut arguments).await,
        uris::TOKEN_LIST => token::list(api).await,
        uris::TOKEN_REMOVE => token::remove(api, &mut arguments).await,
        uris::STORE_RANGE => store::range(api, arguments).await,
        uris::STORE_TXN => store::txn(api, arguments).await,
        of_node if of_node.ends_with(".runs") => run::own(api),
        of_node if of_node.ends_with(".run.stop") => run::stop_own(api, &mut arguments),
        of_node if of_node.ends_with(".run.logs") => logs::own(api, &mut arguments).await,
        of_node if of_node.ends_with(".executor.freed") => run::freed(api, payload),
        // Only what is registered comes here.
        other => Err(Error::NotFound(format!("no procedure {other}"))),
    }
}

/// Registers one ordinary procedure and answers its calls, many at once.
async fn serve_calls(api: &Arc<Api>, session: &Session, uri: String) -> anyhow::Result<()> {
    let mut registration = session.register(&uri).await?;
    let api = api.clone();
    let lifecycle = api.lifecycle.clone();
    let stopping = lifecycle.stopping();
    let room = Arc::new(Semaphore::new(CALLS_MAX));
    lifecycle.clone().spawn(Kind::Part, "procedure", async move {
        while let Some(Some(invocation)) = stopping.run_until_cancelled(registration.next()).await {
            let Ok(place) = room.clone().acquire_owned().await else {
                break;
            };
            let (api, uri) = (api.clone(), uri.clone());
            lifecycle.spawn(Kind::Work, "call", async move {
                let answered = answer(&api, &uri, &invocation).await;
                // A caller that is gone needs no answer.
                let _ = match answered {
                    Ok(value) => invocation.answer(PayloadBuf::of_values(vec![value], None)).await,
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

/// Takes up the sessions of a procedure that has one for each call.
fn serve_streams(api: &Arc<Api>, uri: &'static str) {
    let mut streams = api.router.serve_calls("pipes", uri, STREAMS_WAITING_MAX);
    let api = api.clone();
    let lifecycle = api.lifecycle.clone();
    let stopping = lifecycle.stopping();
    lifecycle
        .clone()
        .spawn(Kind::Part, "streaming procedure", async move {
            while let Some(Some(own)) = stopping.run_until_cancelled(streams.recv()).await {
                let api = api.clone();
                lifecycle.spawn(Kind::Work, "streaming call", async move {
                    match uri {
                        uris::RUN_START => coordinator::serve(api.runs.clone(), own).await,
                        uris::RUN_LOGS => logs::serve(&api, own.stream).await,
                        uris::SERVICE_PUT => upload::serve(&api, own.stream, true).await,
                        _ => upload::serve(&api, own.stream, false).await,
                    }
                    Ok(())
                });
            }
            Ok(())
        });
}
