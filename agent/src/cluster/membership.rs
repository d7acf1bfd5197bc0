//! How an agent becomes a member, or finds that it is one.
//!
//! | its folder | it is | does |
//! |---|---|---|
//! | has a log | a member | goes on |
//! | says that its replica is out | a member without a replica | goes on, until it is reset |
//! | is empty | the first of the list | asks all others; initialises itself alone only when all answer and none has a log; joins the one that has |
//! | is empty | another | joins whoever of the list is a member: a learner first, then promoted |
//!
//! Always: an empty folder is a new node with a new id. The first never initialises while a server of the list does not
//! answer: that one may hold the cluster's log.

use std::net::SocketAddr;

use pipes_raft::Node;
use tracing::{info, warn};

use crate::config::{Config, Member};
use crate::mesh::{Dialer, dial};
use crate::retry::Backoff;

/// The id of the node that a cluster begins with.
const FIRST: u64 = 1;

/// What the others of the list say.
enum List {
    /// One at least has a log: where those are.
    Members(Vec<SocketAddr>),
    /// All answer, none has a log.
    Empty,
    /// None that answers has a log, and these do not answer: name and why.
    Silent(Vec<String>),
}

/// Returns this node's id once it is a member; tries for as long as it takes.
pub async fn enter(config: &Config, node: &Node, dialer: &Dialer) -> anyhow::Result<u64> {
    let is_member = node.has_log() || node.status().sick.is_some();
    if let (true, Some(id)) = (is_member, node.id()) {
        info!(node = id, "a member already");
        let others: Vec<_> = config.others().map(Member::mesh_address).collect();
        node.note_seeds(&others);
        return Ok(id);
    }
    let mut backoff = Backoff::default();
    let mut last = String::new();
    loop {
        let problem = match ask(config, dialer).await {
            List::Members(via) => match node.join(&via, &config.name, config.mesh_address()).await {
                Ok(id) => {
                    info!(node = id, "joined the cluster");
                    return Ok(id);
                }
                Err(error) => format!("cannot join yet: {error}"),
            },
            List::Empty if config.is_first() => {
                node.initialize(config.mesh_address()).await?;
                info!(node = FIRST, "a new cluster begins");
                return Ok(FIRST);
            }
            List::Empty => "no server of the list is a member yet".to_owned(),
            List::Silent(silent) => format!(
                "no server of the list that answers is a member yet; {}",
                silent.join("; ")
            ),
        };
        if problem != last {
            if config.is_first() {
                warn!("{problem}")
            } else {
                info!("{problem}")
            }
            last = problem;
        }
        backoff.rest().await;
    }
}

async fn ask(config: &Config, dialer: &Dialer) -> List {
    let asked = config
        .others()
        .map(|member| async move { (member, dial::ask(dialer, member.mesh_address()).await) });
    let (mut members, mut silent) = (Vec::new(), Vec::new());
    for (member, answer) in futures::future::join_all(asked).await {
        match answer {
            Ok(welcome) if welcome.member => members.push(member.mesh_address()),
            Ok(_) => {}
            Err(error) => silent.push(describe(member, &error)),
        }
    }
    match (members.is_empty(), silent.is_empty()) {
        (false, _) => List::Members(members),
        (true, true) => List::Empty,
        (true, false) => List::Silent(silent),
    }
}

fn describe(member: &Member, error: &crate::mesh::Error) -> String {
    format!("{} does not answer: {error}", member.name)
}
