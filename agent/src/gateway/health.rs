//! `/healthz` and `/readyz`, for who watches an endpoint: asked without a token.
//!
//! Healthy: this agent serves. Ready: a query that comes here now would be taken: the workflow runs, each of its stages has a
//! replica, and enough servers are reached for a job to be accepted.

use axum::Extension;
use axum::extract::State;

use crate::gateway::asked::{Asked, Gateway};
use crate::gateway::error::Error;

/// What an endpoint in order says.
const OK: &str = "ok\n";

/// Whether this agent serves, and goes on to.
pub async fn alive(State(gateway): State<Gateway>) -> Result<&'static str, Error> {
    match gateway.lifecycle.stopping().is_cancelled() {
        false => Ok(OK),
        true => Err(Error::Unavailable("the agent is stopping; ask another".into())),
    }
}

/// Whether a query would be taken.
pub async fn ready(
    State(gateway): State<Gateway>,
    Extension(asked): Extension<Asked>,
) -> Result<&'static str, Error> {
    asked.refuse_if_stopped()?;
    match (gateway.unready)(&asked.workflow) {
        None => Ok(OK),
        Some(why) => Err(Error::Unavailable(why)),
    }
}
