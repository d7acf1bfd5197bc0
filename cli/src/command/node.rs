//! `pipes node ls|reset`

use clap::Subcommand;
use pipes_protocol::uris;
use rmpv::Value;

use crate::client;
use crate::command::objects;
use crate::context::Contexts;
use crate::error::Error;
use crate::local;
use crate::object::{self, Node};
use crate::output::{self, Listing};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All nodes
    Ls(Listing),
    /// Makes a node whose data is damaged, or differs from the others', a new member under its name
    Reset {
        /// Its name
        name: String,
    },
}

pub fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Ls(listing) => {
            let answer = client::call_once(uris::NODE_LIST, Vec::new())?;
            listing.show(&objects::<Node>(answer)?)
        }
        Command::Reset { name } => reset(&name),
    }
}

fn reset(name: &str) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    struct Reset {
        is_down: bool,
    }
    let answer = client::call_once(uris::NODE_RESET, vec![("name", Value::from(name))])?;
    let reset: Reset = object::parse(answer)?;
    if reset.is_down {
        start_anew(name)?;
    }
    output::print(&format!(
        "{name} joins anew; what it had is set aside in its data folder\n"
    ))
}

/// Of a node whose agent does not run, the others have let go: its agent is started with new keys and nothing else.
fn start_anew(name: &str) -> Result<(), Error> {
    let context = Contexts::open()?.in_use()?;
    let cluster = match &context.local {
        Some(_) => local::Cluster::find(&context.name)?,
        None => None,
    };
    let cluster = cluster.ok_or_else(|| {
        Error::Local(format!(
            "{name} is no member any more, and down: move raft/ out of its data folder and start its agent, and it joins anew"
        ))
    })?;
    let _lock = local::lock()?;
    cluster.renew(name, &context.cluster_id)?;
    local::start(&cluster, &context).map(|sick| output::warn(&sick))
}
