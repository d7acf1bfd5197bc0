//! `pipes init --local [N]`

use std::net::IpAddr;

use crate::context::{Contexts, is_name};
use crate::error::Error;
use crate::local::{self, Cluster, Port, Ports};
use crate::output;

/// Agents of a local cluster, unless told otherwise: the fewest that survive the loss of one.
const COUNT: u8 = 3;
/// More agents than this on one machine show nothing that fewer do not.
const COUNT_MAX: u8 = 99;

/// What whoever runs others' programs so is to know.
const ISOLATES_NOTHING: &str = "the executor process isolates nothing: stages are plain processes of this user, and may do all that it may";

/// Makes a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "Run again, it starts what is down.")]
pub struct Arguments {
    /// N agents on this machine's loopback, for development; 3 unless told otherwise
    #[arg(long, value_name = "N", required = true, value_parser = count)]
    local: Option<Option<u8>>,
    /// What to call it
    #[arg(long, value_name = "CLUSTER", default_value = "local")]
    name: String,
    /// How stages are run: process needs no Docker, and isolates nothing
    #[arg(long, value_name = "EXECUTOR", default_value = "process", value_parser = ["process"])]
    executor: String,
    /// The first agent's address; otherwise the next free 127.N.0.1 from N = 77
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// Another port for gateway, mesh, wamp, etcd, registry or workflows
    #[arg(long = "port", value_name = "NAME=PORT", value_parser = local::parse_port)]
    ports: Vec<(Port, u16)>,
}

fn count(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(count @ 1..=COUNT_MAX) => Ok(count),
        _ => Err(format!(
            "'{text}' is no number of agents; give one from 1 to {COUNT_MAX}"
        )),
    }
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    let Arguments { name, local, .. } = &arguments;
    if !is_name(name) {
        return Err(Error::Usage(format!(
            "'{name}' cannot be a cluster's name: letters, digits and ._- are allowed"
        )));
    }
    let contexts = Contexts::open()?;
    let _lock = local::lock()?;
    let (cluster, claim) = match Cluster::find(name)? {
        Some(cluster) => {
            check_same(&cluster, &arguments)?;
            (cluster, None)
        }
        None => {
            let ports = Ports::new(&arguments.ports)?;
            let count = local.flatten().unwrap_or(COUNT);
            let (cluster, claim) = local::make(&contexts, name, count, arguments.address, &ports)?;
            (cluster, Some(claim))
        }
    };
    let context = contexts.named(name)?;
    contexts.choose(name)?;
    output::warn(&local::start(&cluster, &context)?);
    drop(claim);
    let nodes: Vec<_> = cluster
        .members
        .iter()
        .map(|member| format!("{} {}", member.name, member.address))
        .collect();
    output::print(&format!("cluster {name} is up: {}\n", nodes.join(", ")))?;
    if arguments.executor == "process" {
        output::error::note(ISOLATES_NOTHING);
    }
    Ok(())
}

/// A cluster that is there keeps its size and addresses.
fn check_same(cluster: &Cluster, arguments: &Arguments) -> Result<(), Error> {
    let (name, members) = (&cluster.name, cluster.members.len());
    let asked = arguments.local.flatten().map(usize::from);
    let other = if asked.is_some_and(|asked| asked != members) {
        format!("{members} agents")
    } else if arguments
        .address
        .is_some_and(|address| cluster.members[0].address != address)
    {
        format!("address {}", cluster.members[0].address)
    } else if !arguments.ports.is_empty() {
        "ports of its own".into()
    } else {
        return Ok(());
    };
    Err(Error::Usage(format!(
        "cluster {name} is there already, with {other}; start it with: pipes cluster start {name}, or choose another --name"
    )))
}
