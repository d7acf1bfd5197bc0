//! `pipes cluster ls|status|check|start|stop|rm|set`

use pipes_protocol::uris;
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::Subcommand;
use rmpv::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{self, Client};
use crate::context::{Context, Contexts, Target};
use crate::error::Error;
use crate::local;
use crate::object::{self, Cluster, Node, Object};
use crate::output::{self, Format, Listing, json, table};

/// In a list, a cluster that has not answered by then is shown as it is known here: after what an agent may take to find
/// that too few servers are up, and short enough to be waited for.
const LISTED_WITHIN: Duration = Duration::from_millis(1_700);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The clusters of all contexts
    Ls(Listing),
    /// One cluster and its nodes
    Status {
        /// Its name; otherwise the one in use
        name: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Reads all that the servers keep: whether their replicas hold the same, and nothing is damaged; exits 1 otherwise
    Check,
    /// Starts the agents of a local cluster that are down
    Start {
        /// Its name; otherwise the one in use
        name: Option<String>,
    },
    /// Stops the agents of a local cluster
    Stop {
        /// Its name; otherwise the one in use
        name: Option<String>,
    },
    /// Removes a local cluster with all that is in it
    Rm {
        /// Its name; otherwise the one in use
        name: Option<String>,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Sets warm=DURATION, slots=N (invocations at once a replica) or replicas=N (of a service on a node)
    Set {
        /// What, and to what
        #[arg(value_name = "KEY=VALUE", value_parser = setting)]
        setting: (String, String),
    },
}

pub fn run(command: Command) -> Result<(), Error> {
    let contexts = Contexts::open()?;
    match command {
        Command::Ls(listing) => ls(&contexts, listing),
        Command::Status { name, listing } => status(&contexts, name.as_deref(), listing),
        Command::Check => check(),
        Command::Start { name } => {
            let (context, cluster) = local_one(&contexts, name)?;
            let _lock = local::lock()?;
            output::warn(&local::start(&cluster, &context)?);
            output::print(&format!("cluster {} is up\n", cluster.name))
        }
        Command::Stop { name } => {
            let (_, cluster) = local_one(&contexts, name)?;
            let _lock = local::lock()?;
            let ran = local::stop(&cluster);
            output::print(&format!(
                "cluster {} is stopped ({ran} agents ran)\n",
                cluster.name
            ))
        }
        Command::Rm { name, yes } => rm(&contexts, name, yes),
        Command::Set {
            setting: (key, value),
        } => {
            let kwargs = vec![("key", Value::from(key)), ("value", Value::from(value))];
            client::call_once(uris::CLUSTER_SET, kwargs).map(drop)
        }
    }
}

fn check() -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    struct Checked {
        is_sound: bool,
        sentence: String,
    }
    let answer = client::call_once(uris::CLUSTER_CHECK, Vec::new())?;
    let checked: Checked = object::parse(answer)?;
    match checked.is_sound {
        true => output::print(&format!("{}\n", checked.sentence)),
        false => Err(Error::Local(checked.sentence)),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' is no setting; write KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn ls(contexts: &Contexts, listing: Listing) -> Result<(), Error> {
    let current = contexts.in_use().ok().map(|context| context.name);
    let all = contexts.all()?;
    let mut clusters: Vec<Cluster> = all
        .iter()
        .map(|context| Cluster {
            name: Some(context.name.clone()),
            id: Some(context.cluster_id.clone()),
            current: current.as_ref() == Some(&context.name),
            ..Cluster::default()
        })
        .collect();
    client::block_on(async {
        let mut asked = JoinSet::new();
        for (index, context) in all.iter().enumerate() {
            match Target::of(context) {
                Ok(target) => {
                    asked.spawn(async move { (index, timeout(LISTED_WITHIN, ask(&target)).await) });
                }
                Err(error) => clusters[index].reason = Some(error.to_string()),
            }
        }
        while let Some(Ok((index, answered))) = asked.join_next().await {
            // One that does not answer is listed as well, with what is not known left open.
            let answered = match answered {
                Ok(Ok(cluster)) => Some(cluster),
                Ok(Err(Error::Unreachable { .. })) | Err(_) => None,
                // Somebody answers, and says why that is all.
                Ok(Err(error)) => Some(Cluster {
                    reason: Some(error.to_string()),
                    ..Cluster::default()
                }),
            };
            if let Some(Cluster {
                leader,
                term,
                revision,
                nodes,
                reason,
                ..
            }) = answered.or_else(|| unanswered(&all[index]))
            {
                let known = &mut clusters[index];
                (known.leader, known.term, known.revision) = (leader, term, revision);
                (known.nodes, known.reason) = (nodes, reason);
            }
        }
        Ok(())
    })?;
    listing.show(&clusters)
}

fn status(contexts: &Contexts, name: Option<&str>, listing: Listing) -> Result<(), Error> {
    let in_use = contexts.in_use().ok().map(|context| context.name);
    let (shown, target, context) = match name {
        Some(name) => {
            let context = contexts.named(name)?;
            (Some(name.to_owned()), Target::of(&context)?, Some(context))
        }
        None => (in_use.clone(), contexts.target()?, contexts.in_use().ok()),
    };
    let mut cluster = match client::block_on(ask(&target)) {
        // Of a cluster of this machine it is known which of its agents run.
        Err(error @ Error::Unreachable { .. }) if target.is_whole => {
            context.as_ref().and_then(unanswered).ok_or(error)?
        }
        answered => answered?,
    };
    cluster.current = name.is_none() || in_use == shown;
    cluster.name = shown.or(cluster.name);
    if listing.quiet {
        return output::print(&format!("{}\n", cluster.id()));
    }
    match listing.format {
        Format::Json => output::print(&json::render(&cluster)),
        Format::Table => {
            let head = table::render(Cluster::TITLES, std::iter::once(cluster.row()));
            let nodes: Vec<Node> = cluster
                .nodes
                .map(serde_json::from_value)
                .and_then(Result::ok)
                .unwrap_or_default();
            let nodes = table::render(Node::TITLES, nodes.iter().map(Object::row));
            let reason = cluster.reason.map(|reason| format!("\n{reason}\n"));
            output::print(&format!("{head}\n{nodes}{}", reason.unwrap_or_default()))
        }
    }
}

/// A local cluster none of whose agents answers, as far as can be seen from here.
fn unanswered(context: &Context) -> Option<Cluster> {
    context.local.as_ref()?;
    let cluster = local::Cluster::find(&context.name).ok()??;
    let nodes = local::unanswered(&cluster);
    let is_stopped = nodes.iter().all(|node| node.state.as_deref() == Some("down"));
    let (name, id) = (&context.name, &context.cluster_id);
    Some(Cluster {
        name: Some(name.clone()),
        id: Some(id.clone()),
        nodes: serde_json::to_value(nodes).ok(),
        reason: Some(match is_stopped {
            true => format!("none of its agents runs; start them with: pipes cluster start {name}"),
            false => {
                format!(
                    "none of its agents answers; start those that are down with: pipes cluster start {name}"
                )
            }
        }),
        ..Cluster::default()
    })
}

async fn ask(target: &Target) -> Result<Cluster, Error> {
    let mut client = Client::connect(target).await?;
    object::parse(client.call(uris::CLUSTER_STATUS, Vec::new()).await?)
}

fn rm(contexts: &Contexts, name: Option<String>, yes: bool) -> Result<(), Error> {
    let (_, cluster) = local_one(contexts, name)?;
    let name = &cluster.name;
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(Error::Usage(format!(
                "removing cluster {name} takes all that is in it; say so with --yes"
            )));
        }
        eprint!("Remove cluster {name} with all its services and runs? [y/N] ");
        // An answer that cannot be shown is asked for all the same.
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        if read.is_err() || !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Error::Local(format!("cluster {name} was not removed")));
        }
    }
    let _lock = local::lock()?;
    local::remove(&cluster)?;
    contexts.remove(name)?;
    output::print(&format!("{name}\n"))
}

/// The local cluster that is meant, and its context.
fn local_one(contexts: &Contexts, name: Option<String>) -> Result<(Context, local::Cluster), Error> {
    let context = match name {
        Some(name) => contexts.named(&name)?,
        None => contexts.in_use()?,
    };
    let name = &context.name;
    match local::Cluster::find(name)? {
        Some(cluster) if context.local.is_some() => Ok((context, cluster)),
        _ if context.local.is_some() => Err(Error::Local(format!(
            "the files of the local cluster {name} are gone; remove what is left with: pipes context rm {name}"
        ))),
        _ => Err(Error::Local(format!(
            "cluster {name} is not on this machine: only a local one can be started and stopped"
        ))),
    }
}
