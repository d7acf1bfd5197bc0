//! `pipes node ls|reset|rm`

use std::time::{Duration, Instant};

use clap::Subcommand;
use pipes_protocol::uris;
use rmpv::Value;

use crate::client;
use crate::command::objects;
use crate::context::Contexts;
use crate::error::Error;
use crate::local;
use crate::object::{self, Node};
use crate::output::spinner::Spinner;
use crate::output::{self, Listing};

/// What is wrong with nodes whose replicas differ, with no majority of one mind.
const DIFFER: &str = "the replicas differ";
/// How long a node that was reset may take to be back.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All nodes
    Ls(Listing),
    /// Makes a node whose data is damaged, or differs from the others', a new member under its name
    Reset {
        /// Its name
        name: String,
    },
    /// Removes a node that is not to come back; of a local cluster, with its files
    Rm {
        /// Its name
        name: String,
        /// Also one that is down
        #[arg(long)]
        force: bool,
    },
}

pub fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Ls(listing) => {
            let answer = client::list_once(uris::NODE_LIST)?;
            listing.show(&objects::<Node>(answer)?)
        }
        Command::Reset { name } => reset(&name),
        Command::Rm { name, force } => remove(&name, force),
    }
}

/// What the asked agent did.
#[derive(serde::Deserialize)]
struct Reset {
    name: String,
    id: u64,
    is_down: bool,
}

fn reset(name: &str) -> Result<(), Error> {
    let answer = client::call_once(uris::NODE_RESET, vec![("name", Value::from(name))])?;
    let reset: Reset = object::parse(answer)?;
    if reset.is_down {
        start_anew(&reset)?;
    }
    let (name, before) = (&reset.name, reset.id);
    output::print(&match wait_until_whole(&reset)? {
        Some(new) => format!(
            "{name} is member {new} now; what it had as member {before} is set aside in its data folder\n"
        ),
        None => format!(
            "{name} joins anew once a majority of the others agrees: the other replicas still differ\n"
        ),
    })
}

fn remove(name: &str, is_forced: bool) -> Result<(), Error> {
    let kwargs = vec![("name", Value::from(name)), ("force", is_forced.into())];
    client::call_once(uris::NODE_REMOVE, kwargs)?;
    let contexts = Contexts::open()?;
    let mut context = contexts.in_use()?;
    let cluster = match &context.local {
        Some(_) => local::Cluster::find(&context.name)?,
        None => None,
    };
    let members = cluster.map(|cluster| cluster.members).unwrap_or_default();
    if let Some(member) = members.iter().find(|member| member.name == name) {
        let _lock = local::lock()?;
        local::forget(member)?;
        let server = member.server().to_string();
        context.servers.retain(|known| *known != server);
        contexts.save(&context)?;
    }
    output::print(&format!("{name}\n"))
}

/// Of a node whose agent does not run, the others have let go: its agent is started with new keys and nothing else.
fn start_anew(reset: &Reset) -> Result<(), Error> {
    let context = Contexts::open()?.in_use()?;
    let cluster = match &context.local {
        Some(_) => local::Cluster::find(&context.name)?,
        None => None,
    };
    let cluster = cluster.ok_or_else(|| {
        Error::Local(format!(
            "{} is no member any more, and down: move raft/ out of its data folder and start its agent, and it joins anew",
            reset.name
        ))
    })?;
    let _lock = local::lock()?;
    if let Some(member) = cluster.members.iter().find(|member| member.name == reset.name) {
        local::end(member);
    }
    cluster.renew(&reset.name, reset.id, &context.cluster_id, &context.ca)?;
    local::start(&cluster, &context).map(|sick| output::warn(&sick))
}

/// Waits until the node is up under another id, which it gives; nothing where the others cannot decide yet.
fn wait_until_whole(reset: &Reset) -> Result<Option<String>, Error> {
    let mut waiting = Spinner::new(&format!("{} joins anew", reset.name));
    let begun = Instant::now();
    while begun.elapsed() < WHOLE_WITHIN {
        // Whoever was asked first may be the one that starts again.
        let nodes = client::list_once(uris::NODE_LIST).and_then(objects::<Node>);
        let nodes = nodes.unwrap_or_default();
        if nodes.iter().any(|node| node.reason.as_deref() == Some(DIFFER)) {
            return Ok(None);
        }
        let whole = nodes.into_iter().find(|node| {
            node.name.as_deref() == Some(&*reset.name)
                && node.state.as_deref() == Some("up")
                && node.id.as_ref().is_some_and(|id| id.as_u64() != Some(reset.id))
        });
        if let Some(id) = whole.and_then(|node| node.id) {
            return Ok(Some(id.to_string()));
        }
        waiting.tick();
        std::thread::sleep(LOOK_EVERY);
    }
    Err(Error::Local(format!(
        "{} is no member any more, and not back after {} s; see its agent's log",
        reset.name,
        WHOLE_WITHIN.as_secs()
    )))
}
