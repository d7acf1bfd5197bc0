//! Every procedure of the API: its URI, who may call it, and what answers. `serve.rs` registers them.

use std::sync::Arc;

use futures::future::BoxFuture;
use pipes_protocol::uris;

use crate::api::arguments::Arguments;
use crate::api::{
    Answer, Api, Error, attempt, blob, check, cluster, error, file, job, logs, node, run, service, store,
    supply, token, workflow,
};
use crate::workflow::coordinator;
use pipes_router::OwnSession;

/// One procedure.
pub(super) struct Procedure {
    pub(super) uri: &'static str,
    pub(super) right: Right,
    pub(super) function: Function,
}

/// Who may call a procedure; the router holds every session to it by realm and URI.
#[derive(Clone, Copy)]
pub(super) enum Right {
    /// Operators, in realm `pipes`, by the URI as it stands.
    Operators,
    /// Other agents, and in part shims, in realm `pipes.stages`, by the URI as one of this node's.
    Agents,
}

/// What answers.
#[derive(Clone, Copy)]
pub(super) enum Function {
    /// Gives one answer.
    Once(Once),
    /// Has a session of its own for each call, so that a caller who does not read stops nobody else.
    Stream(fn(Arc<Api>, OwnSession) -> BoxFuture<'static, ()>),
}

/// Answers a call by its arguments.
pub(super) type Once = fn(Arc<Api>, Arguments) -> BoxFuture<'static, Result<Answer, Error>>;

/// A procedure that takes keyword arguments and answers once.
macro_rules! once {
    ($function:path) => {
        Function::Once(|api, mut arguments| {
            Box::pin(async move { $function(&api, &mut arguments).await.map(Answer::from) })
        })
    };
}

/// The same of one that has nothing to say where the store can decide nothing.
macro_rules! stored {
    ($function:path) => {
        Function::Once(|api, mut arguments| {
            Box::pin(async move {
                let answered = $function(&api, &mut arguments);
                error::decided(&api.quorum, answered).await.map(Answer::from)
            })
        })
    };
}

/// A procedure that is given the session of its call.
macro_rules! stream {
    ($function:path) => {
        Function::Stream(|api, own| Box::pin(async move { $function(&api, own).await }))
    };
}

/// All of them.
pub(super) const PROCEDURES: &[Procedure] = &[
    operators(
        uris::RUN_START,
        Function::Stream(|api, own| Box::pin(coordinator::serve(api.runs.clone(), own))),
    ),
    operators(uris::RUN_LIST, once!(run::list)),
    operators(uris::RUN_GET, once!(run::get)),
    operators(uris::RUN_STOP, once!(run::stop)),
    operators(uris::RUN_LOGS, stream!(logs::serve)),
    operators(uris::JOB_SUBMIT, stream!(job::submit)),
    operators(uris::JOB_GET, stream!(job::get)),
    operators(uris::JOB_RESULT, stream!(job::result)),
    operators(uris::JOB_LIST, stored!(job::list)),
    operators(uris::JOB_CANCEL, stored!(job::cancel)),
    operators(uris::JOB_RETRY, stored!(job::retry)),
    operators(uris::WORKFLOW_START, stored!(workflow::start)),
    operators(uris::WORKFLOW_STOP, stored!(workflow::stop)),
    operators(uris::WORKFLOW_REMOVE, stored!(workflow::remove)),
    operators(uris::WORKFLOW_LIST, once!(workflow::list)),
    operators(uris::WORKFLOW_GET, stored!(workflow::get)),
    operators(uris::WORKFLOW_UPDATE, stored!(workflow::update)),
    operators(uris::WORKFLOW_SCALE, stored!(workflow::scale)),
    operators(uris::SERVICE_PUT, stream!(service::put)),
    operators(uris::SERVICE_LIST, stored!(service::list)),
    operators(uris::SERVICE_GET, stored!(service::get)),
    operators(uris::SERVICE_REMOVE, stored!(service::remove)),
    operators(uris::BLOB_PUT, stream!(blob::put)),
    operators(uris::BLOB_HAS, once!(blob::has)),
    operators(uris::NODE_LIST, once!(node::list)),
    operators(uris::NODE_RESET, once!(node::reset)),
    operators(uris::NODE_REMOVE, stored!(node::remove)),
    operators(uris::NODE_SUPPLY, once!(supply::own)),
    operators(uris::CLUSTER_STATUS, once!(cluster::status)),
    operators(uris::CLUSTER_CHECK, stored!(check::check)),
    operators(uris::CLUSTER_SET, stored!(cluster::set)),
    operators(uris::TOKEN_CREATE, stored!(token::create)),
    operators(uris::TOKEN_LIST, stored!(token::list)),
    operators(uris::TOKEN_CHECK, stored!(token::check)),
    operators(uris::TOKEN_REMOVE, stored!(token::remove)),
    operators(uris::STORE_RANGE, stored!(store::range)),
    operators(uris::STORE_TXN, stored!(store::txn)),
    agents(uris::node::FILE, stream!(file::give)),
    agents(uris::node::BLOBS_CHECK, once!(check::own_blobs)),
    agents(uris::node::RESET, once!(node::reset_own)),
    agents(uris::node::RUNS, once!(run::own)),
    agents(uris::node::RUN_STOP, once!(run::stop_own)),
    agents(uris::node::JOB_STAGES, once!(attempt::own)),
    agents(uris::node::RUN_LOGS, once!(logs::own)),
];

const fn operators(uri: &'static str, function: Function) -> Procedure {
    Procedure {
        uri,
        right: Right::Operators,
        function,
    }
}

const fn agents(uri: &'static str, function: Function) -> Procedure {
    Procedure {
        uri,
        right: Right::Agents,
        function,
    }
}
