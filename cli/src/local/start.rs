//! Making, starting and stopping a local cluster.

use pipes_protocol::uris;
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::address::{Claim, Ports};
use super::layout::{self, Cluster, Member, Plan};
use super::process::{self, Running};
use crate::answer;
use crate::client::{self, Client};
use crate::context::{Context, Contexts, Server, Target};
use crate::error::Error;
use crate::object::{self, Node};
use crate::output::spinner::Spinner;

/// So many nodes get a vote; further ones do without (`VOTERS_MAX` of the store, of which a CLI has no part).
const VOTERS: usize = 5;
/// What the reason of a node says that has to be made new.
const RESET: &str = "pipes node reset";
/// A cluster that is not up by then is given up on; the agents are left as they are, to be looked at.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks at agents that are starting.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// An agent that has not ended so long after SIGTERM is killed.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// After SIGKILL the kernel needs only this.
const DIE_WITHIN: Duration = Duration::from_secs(5);

/// Makes a cluster and its context; starts nothing yet. The claim must live until it is started.
pub fn make(
    contexts: &Contexts,
    name: &str,
    count: u8,
    address: Option<IpAddr>,
    ports: &Ports,
) -> Result<(Cluster, Claim), Error> {
    if let Some(other) = contexts.find(name)?.filter(|context| context.local.is_none()) {
        let name = other.name;
        return Err(Error::Local(format!(
            "context {name} is another cluster's; choose another name with --name"
        )));
    }
    let root = layout::root()?;
    layout::check_length(&root.join(name), usize::from(count))?;
    let kept: BTreeSet<IpAddr> = Cluster::all()?
        .iter()
        .flat_map(|cluster| cluster.members.iter().map(|member| member.address))
        .collect();
    let claim = match address {
        Some(address) => Claim::from(address, count, ports)?,
        None => Claim::next(count, ports, &kept)?,
    };
    let id = ulid::Ulid::new().to_string().to_lowercase();
    let operator = operator_name();
    let (seed, public) = new_key()?;
    let plan = Plan {
        name,
        id: &id,
        addresses: claim.addresses(),
        ports,
        operator: (&operator, &public),
    };
    // The context first: with the folder in its place everything is there.
    let folder = root.join(name);
    let mut context = Context {
        name: name.to_owned(),
        cluster: name.to_owned(),
        cluster_id: id.clone(),
        servers: Vec::new(),
        key: seed,
        operator: operator.clone(),
        ca: String::new(),
        local: Some(folder),
    };
    for address in claim.addresses() {
        context
            .servers
            .push(std::net::SocketAddr::new(*address, ports.of(super::Port::Wamp)).to_string());
    }
    contexts.save(&context)?;
    let cluster = Cluster::write(&root, &plan)?;
    let authority = cluster.members[0].folder.join("tls/ca.pem");
    context.ca = fs::read_to_string(&authority).map_err(|error| Error::read(authority, error))?;
    contexts.save(&context)?;
    Ok((cluster, claim))
}

/// Starts what does not run, and waits until all answer and know one another as up. Gives what is wrong with those that
/// are there without a replica.
pub fn start(cluster: &Cluster, context: &Context) -> Result<Vec<String>, Error> {
    let executable = process::executable()?;
    let mut agents = Vec::new();
    for member in &cluster.members {
        let agent = match Running::find(member) {
            Some(running) => Agent::Found(running),
            None => Agent::Started(process::spawn(&executable, member)?),
        };
        agents.push((member, agent));
    }
    client::block_on(wait_until_up(cluster, context, &executable, &mut agents))
}

/// An agent that is waited for.
enum Agent {
    /// It ran already; one that was killed a moment ago does so until the kernel has ended it.
    Found(Running),
    /// It is our child.
    Started(Child),
}

async fn wait_until_up(
    cluster: &Cluster,
    context: &Context,
    executable: &Path,
    agents: &mut [(&Member, Agent)],
) -> Result<Vec<String>, Error> {
    let mut sick = Vec::new();
    let mut waiting = Spinner::new(&format!("starting cluster {}", cluster.name));
    let begun = Instant::now();
    let target = Target::of(context)?;
    for member in &cluster.members {
        loop {
            let why = match is_up(member, &target, cluster.members.len()).await {
                Ok(found) => {
                    sick = found;
                    break;
                }
                Err(why) => why,
            };
            look_after(executable, agents)?;
            if begun.elapsed() > UP_WITHIN {
                let log = member.log();
                return Err(Error::Local(format!(
                    "cluster {} is not up after {} s: {} says {why}; see {}",
                    cluster.name,
                    UP_WITHIN.as_secs(),
                    member.name,
                    log.display()
                )));
            }
            waiting.tick();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(sick)
}

/// Whether this agent serves, and sees every node up and none still on its way to a vote: until then the loss of one
/// node could stop a cluster of three. Gives what is wrong with nodes that have to be made new.
async fn is_up(member: &Member, target: &Target, count: usize) -> Result<Vec<String>, String> {
    if !member.folder.join("ready").exists() {
        return Err("it is not ready".into());
    }
    let own = Target {
        servers: vec![Server::Near {
            address: Some(member.server()),
            socket: member.folder.join("agent.sock"),
        }],
        ..target.clone()
    };
    let nodes = async {
        let nodes = Client::connect(&own)
            .await?
            .list(uris::NODE_LIST, Vec::new())
            .await?;
        answer::list(nodes)
            .into_iter()
            .map(object::parse)
            .collect::<Result<Vec<Node>, Error>>()
    };
    let nodes = nodes.await.map_err(|error| error.to_string())?;
    let up = nodes
        .iter()
        .filter(|node| node.state.as_deref() == Some("up"))
        .count();
    let sick: Vec<String> = nodes
        .iter()
        .filter(|node| node.state.as_deref() == Some("sick"))
        .filter_map(|node| Some(format!("{}: {}", node.name.as_ref()?, node.reason.as_ref()?)))
        .filter(|why| why.contains(RESET))
        .collect();
    if up + sick.len() < count {
        return Err(format!("{up} of {count} nodes are up"));
    }
    let has_vote = |node: &&Node| {
        matches!(node.role.as_deref(), Some("leader" | "voter")) && node.state.as_deref() != Some("sick")
    };
    match nodes.iter().filter(has_vote).count() {
        voters if voters + sick.len() >= count.min(VOTERS) => Ok(sick),
        voters => Err(format!("{voters} of its voters have a vote")),
    }
}

/// Starts those that were ending when they were found; an error when one of those just started has ended.
fn look_after(executable: &Path, agents: &mut [(&Member, Agent)]) -> Result<(), Error> {
    for (member, agent) in agents {
        let child = match agent {
            Agent::Found(running) => {
                if running.ends_within(Duration::ZERO) {
                    *agent = Agent::Started(process::spawn(executable, member)?);
                }
                continue;
            }
            Agent::Started(child) => child,
        };
        let ended = child
            .try_wait()
            .map_err(|error| Error::Local(format!("cannot watch an agent: {error}")))?;
        if let Some(status) = ended {
            let why = process::last_line(&member.log()).unwrap_or_else(|| status.to_string());
            let log = member.log();
            return Err(Error::Local(format!(
                "agent {} ended: {why} (log: {})",
                member.name,
                log.display()
            )));
        }
    }
    Ok(())
}

/// The nodes of a cluster none of whose agents answers: whether each runs is all that is known of it.
pub fn unanswered(cluster: &Cluster) -> Vec<Node> {
    let nodes = cluster.members.iter().map(|member| {
        let (state, reason) = match Running::find(member) {
            Some(_) => ("sick", "its agent runs and does not answer; see its agent.log"),
            None => ("down", "its agent does not run"),
        };
        Node {
            name: Some(member.name.clone()),
            address: Some(member.address.to_string()),
            state: Some(state.into()),
            reason: Some(reason.into()),
            ..Node::default()
        }
    });
    nodes.collect()
}

/// Ends a member's agent, if it runs.
pub fn end(member: &Member) {
    if let Some(agent) = Running::find(member) {
        agent.signal(libc::SIGTERM);
        if !agent.ends_within(STOP_WITHIN) {
            agent.signal(libc::SIGKILL);
            agent.ends_within(DIE_WITHIN);
        }
    }
}

/// Stops all agents of a cluster: all are asked at once, then each is waited for. Gives back how many ran.
pub fn stop(cluster: &Cluster) -> usize {
    let running: Vec<Running> = cluster.members.iter().filter_map(Running::find).collect();
    for agent in &running {
        agent.signal(libc::SIGTERM);
    }
    let begun = Instant::now();
    for agent in &running {
        if !agent.ends_within(STOP_WITHIN.saturating_sub(begun.elapsed())) {
            agent.signal(libc::SIGKILL);
            agent.ends_within(DIE_WITHIN);
        }
    }
    running.len()
}

/// A seed and its public key, hexadecimal.
fn new_key() -> Result<(String, String), Error> {
    let failed = |_| Error::Local("the system gives no random numbers".into());
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(failed)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
        .map_err(|error| Error::Local(format!("cannot make a key: {error}")))?;
    Ok((hex::encode(seed), hex::encode(pair.public_key())))
}

/// `user@host`, for listings.
fn operator_name() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.ok().filter(|user| !user.is_empty()).unwrap_or_else(|| {
        // SAFETY: takes nothing, cannot fail.
        format!("uid{}", unsafe { libc::geteuid() })
    });
    let host = fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
    let host = host.trim().split('.').next().unwrap_or_default().to_owned();
    if host.is_empty() {
        user
    } else {
        format!("{user}@{host}")
    }
}
