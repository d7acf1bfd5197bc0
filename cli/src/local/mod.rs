//! Local clusters: agents on this machine's loopback, for development.
//!
//! ```text
//! $XDG_STATE_HOME/pipes/CLUSTER/n1/   agent.toml  tls/  agent.log  agent.pid  agent.sock  stages/  raft/  ...
//! ```
//!
//! Made in one step: the whole folder is built beside its place and renamed into it, after the context was written, so
//! that an interrupted `init` leaves either nothing to start or all of it. Starting is the same whether the cluster is
//! new, stopped or half down: what does not run is started, then everybody is waited for.

mod address;
pub(crate) mod certificate;
mod holder;
mod layout;
mod process;
mod start;

use std::fs;
use std::path::Path;

use crate::error::Error;

pub use address::{Port, Ports, parse_port};
pub use layout::{Cluster, Member};
pub use start::{end, make, start, stop, unanswered};

/// Held while a cluster of this user is made, started, stopped or removed.
pub fn lock() -> Result<fs::File, Error> {
    layout::lock(&layout::root()?)
}

/// Ends an agent that is no node any more, and removes its files.
pub fn forget(member: &Member) -> Result<(), Error> {
    end(member);
    remove_folder(&member.folder)
}

/// Stops a cluster and removes all its files.
pub fn remove(cluster: &Cluster) -> Result<(), Error> {
    stop(cluster);
    remove_folder(&cluster.folder)
}

/// Removes files of agents, and what stages have left among them.
fn remove_folder(path: &Path) -> Result<(), Error> {
    let removed = pipes_folder::remove(path);
    removed.map_err(|source| Error::File {
        doing: "remove",
        path: path.to_owned(),
        source,
    })
}
