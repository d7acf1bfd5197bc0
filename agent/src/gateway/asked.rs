//! What every handler is given: the gateway's parts, and which workflow was asked how.

use std::path::PathBuf;
use std::sync::Arc;

use pipes_router::Router;

use crate::gateway::error::Error;
use crate::gateway::limits::Limits;
use crate::gateway::socket::Peer;
use crate::lifecycle::Lifecycle;
use crate::workflow::daemon::known::Workflows;
use crate::workflow::daemon::record::{Wish, Workflow};

/// Why a workflow cannot be served now, in a sentence; `None`: it can.
pub type Unready = Arc<dyn Fn(&Workflow) -> Option<String> + Send + Sync>;

/// What requests are served with. A cheap handle.
#[derive(Clone)]
pub struct Gateway {
    /// Gives sessions.
    pub router: Router,
    /// The workflows there are.
    pub workflows: Workflows,
    /// Why one of them is not ready, beside its wish.
    pub unready: Unready,
    /// Requests at once.
    pub limits: Limits,
    /// Folder of files that lie aside while a client sends.
    pub spool: Arc<PathBuf>,
    /// Where tasks run.
    pub lifecycle: Lifecycle,
}

/// The workflow that a request is for.
#[derive(Clone)]
pub struct Asked {
    /// As it was when the head was read.
    pub workflow: Arc<Workflow>,
    /// What a relative reference to a place below the workflow begins with, from where the client asked.
    pub base: String,
    /// The client.
    pub peer: Peer,
    /// It has shown the workflow's token, or the workflow has none.
    pub has_token: bool,
    /// SHA-256 of the token that it has shown, in hexadecimal digits.
    pub token_sha256: Option<String>,
}

impl Asked {
    /// Refuses a query of a workflow that takes none.
    pub fn refuse_if_stopped(&self) -> Result<(), Error> {
        match self.workflow.wish {
            Wish::Running => Ok(()),
            Wish::Stopped => Err(stopped(&self.workflow)),
        }
    }
}

/// That it takes nothing.
pub fn stopped(workflow: &Workflow) -> Error {
    let name = &workflow.name;
    Error::Unavailable(format!(
        "workflow {name} is stopped; `pipes start {name}` starts it"
    ))
}
