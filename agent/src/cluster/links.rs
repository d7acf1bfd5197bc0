//! The router's links: to every other node of the list one, dialled by the smaller id.
//!
//! Whom there is to link with stands in the store (`/pipes/nodes/`). A link that is lost is dialled again, with growing
//! rests. A node that is not in the list gets none, whatever its certificate says, and one that leaves it loses its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pipes_raft::{EventKind, KeyValue, Store};
use pipes_router::Router;
use rustls::Connection;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::nodes::Record;
use crate::follow::{Change, Follow};
use crate::keys;
use crate::lifecycle::{Kind, Lifecycle};
use crate::mesh::listener::Incoming;
use crate::mesh::{Class, Dialer};
use crate::retry::Backoff;

/// How long a link may be here before its node's record is: the two come by different ways, and the far end counts the
/// link as living meanwhile.
const RECORD_WITHIN: Duration = Duration::from_secs(1);

/// Links that wait for their node's record; further ones wait greeted.
const EARLY_MAX: usize = 16;

/// Keeps the links.
pub struct Links {
    /// Who gets them.
    pub router: Router,
    /// Who makes them.
    pub dialer: Dialer,
    /// Knows the nodes.
    pub store: Store,
    /// Stops and awaits the tasks that dial.
    pub lifecycle: Lifecycle,
}

struct Peer {
    name: String,
    address: SocketAddr,
    /// Ends the task that dials it; `None` where the peer dials.
    dialling: Option<CancellationToken>,
}

impl Links {
    /// Runs until the agent stops. `incoming` are the links that peers have dialled.
    pub async fn run(self, mut incoming: mpsc::Receiver<Incoming>) -> anyhow::Result<()> {
        let stopping = self.lifecycle.stopping();
        let mut nodes = Follow::new(self.store.clone(), keys::nodes());
        let mut peers = HashMap::new();
        let mut early: Vec<(Instant, Incoming)> = Vec::new();
        loop {
            tokio::select! {
                // What is there is taken before anybody's time is found to be over.
                biased;
                () = stopping.cancelled() => return Ok(()),
                change = nodes.next() => self.learn(&mut peers, change),
                link = incoming.recv(), if early.len() < EARLY_MAX => match link {
                    Some(link) => early.push((Instant::now(), link)),
                    None => return Ok(()),
                },
                () = tokio::time::sleep(RECORD_WITHIN), if !early.is_empty() => {}
            }
            for (since, link) in std::mem::take(&mut early) {
                early.extend(self.take(&peers, since, link)?);
            }
        }
    }

    fn learn(&self, peers: &mut HashMap<u64, Peer>, change: Change) {
        match change {
            Change::All(all) => {
                let there: Vec<_> = all.iter().filter_map(record).collect();
                let gone: Vec<_> = peers
                    .keys()
                    .copied()
                    .filter(|id| !there.iter().any(|record| record.id == *id))
                    .collect();
                gone.into_iter().for_each(|id| self.part(peers, id));
                there.into_iter().for_each(|record| self.know(peers, &record));
            }
            Change::Events(events) => {
                for event in events {
                    match event.kind {
                        EventKind::Put => {
                            if let Some(record) = record(&event.kv) {
                                self.know(peers, &record);
                            }
                        }
                        EventKind::Delete => {
                            let id =
                                keys::after(&event.kv.key, &keys::nodes()).and_then(|id| id.parse().ok());
                            id.into_iter().for_each(|id| self.part(peers, id));
                        }
                    }
                }
            }
        }
    }

    /// Forgets a node that is none any more, and ends what there is of a link to it.
    fn part(&self, peers: &mut HashMap<u64, Peer>, id: u64) {
        forget(peers, id);
        self.router.drop_link(id);
    }

    fn know(&self, peers: &mut HashMap<u64, Peer>, record: &Record) {
        let me = self.dialer.local().node();
        let Ok(ip) = record.address.parse() else {
            warn!(
                node = record.id,
                address = record.address,
                "a node's address is none"
            );
            return;
        };
        let address = SocketAddr::new(ip, record.mesh);
        if record.id == me
            || peers
                .get(&record.id)
                .is_some_and(|peer| peer.address == address && peer.name == record.name)
        {
            return;
        }
        forget(peers, record.id);
        let dialling = (me < record.id).then(|| self.dial(record.id, address));
        peers.insert(
            record.id,
            Peer {
                name: record.name.clone(),
                address,
                dialling,
            },
        );
    }

    fn dial(&self, peer: u64, address: SocketAddr) -> CancellationToken {
        let token = self.lifecycle.stopping().child_token();
        let (router, dialer, stop) = (self.router.clone(), self.dialer.clone(), token.clone());
        self.lifecycle.spawn(Kind::Connection, "router link", async move {
            stop.run_until_cancelled(keep_linked(router, dialer, peer, address))
                .await;
            Ok(())
        });
        token
    }

    /// Gives the router a link that a peer dialled, if the peer is in the list; gives it back if it may yet be.
    fn take(
        &self,
        peers: &HashMap<u64, Peer>,
        since: Instant,
        link: Incoming,
    ) -> anyhow::Result<Option<(Instant, Incoming)>> {
        let (id, name) = (link.hello.node, &link.hello.name);
        if peers.get(&id).is_none_or(|peer| peer.name != *name) {
            if since.elapsed() < RECORD_WITHIN {
                return Ok(Some((since, link)));
            }
            info!(node = id, name, address = %link.address, "no node of the list: its link is not taken");
            return Ok(None);
        }
        let (stream, tls) = link.stream.into_inner();
        // Whether it lives is its dialler's to see.
        drop(hand_over(&self.router, id, stream, Connection::from(tls))?);
        Ok(None)
    }
}

fn record(kv: &KeyValue) -> Option<Record> {
    let record = serde_json::from_slice(&kv.value);
    if record.is_err() {
        warn!(key = %String::from_utf8_lossy(&kv.key), "a node's record that is none is left out");
    }
    record.ok()
}

fn forget(peers: &mut HashMap<u64, Peer>, id: u64) {
    if let Some(Peer {
        dialling: Some(token),
        ..
    }) = peers.remove(&id)
    {
        token.cancel();
    }
}

async fn keep_linked(router: Router, dialer: Dialer, peer: u64, address: SocketAddr) {
    let mut links = router.links();
    let mut backoff = Backoff::default();
    let mut last = String::new();
    loop {
        if links.wait_for(|live| !live.contains(&peer)).await.is_err() {
            return;
        }
        let problem = match dialer.dial(address, Class::Router).await {
            Ok((stream, welcome)) if welcome.node == peer => {
                let (stream, tls) = stream.into_inner();
                match hand_over(&router, peer, stream, Connection::from(tls)) {
                    Ok(taken) => {
                        // Without a limit: a router that is late would end this link for the next one.
                        if taken.await.is_err() {
                            return;
                        }
                        if links.borrow_and_update().contains(&peer) {
                            info!(node = peer, "linked");
                            last.clear();
                            backoff.reset();
                            continue;
                        }
                        "the link did not come to life".to_owned()
                    }
                    Err(error) => error.to_string(),
                }
            }
            Ok((_, welcome)) => format!("node {} is there", welcome.node),
            Err(error) => error.to_string(),
        };
        if problem != last {
            info!(node = peer, %address, problem, "no link");
            last = problem;
        }
        backoff.rest().await;
    }
}

/// Gives the router a link; fires when it has taken it.
fn hand_over(
    router: &Router,
    peer: u64,
    stream: TcpStream,
    tls: Connection,
) -> anyhow::Result<oneshot::Receiver<()>> {
    Ok(router.add_link(peer, stream.into_std()?, tls))
}
