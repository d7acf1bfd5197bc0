//! Follows what every node tells of its supply: this one's own pool at once, each linked one by a call that lives as long
//! as the link.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use pipes_protocol::reservation;
use pipes_protocol::supply::Supply;
use pipes_protocol::uris;
use pipes_wamp::client::{CallError, CallOptions, Session};
use pipes_wamp::payload::PayloadBuf;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::lifecycle::{Kind, Lifecycle};
use crate::retry::Backoff;
use crate::workflow::supply::{SILENT_AFTER, Supplies};

/// How often this node's own supply is looked at, also where nothing has changed.
const AGAIN: Duration = Duration::from_secs(1);

/// What is followed, and for whom.
pub struct Peers {
    /// Who is told.
    pub supplies: Supplies,
    /// This node.
    pub node: u64,
    /// Its own pool's supply.
    pub own: watch::Receiver<Supply>,
    /// Nodes that are linked with this one.
    pub links: watch::Receiver<BTreeSet<u64>>,
    /// Calls other agents.
    pub session: Session,
    /// Runs a task for each.
    pub lifecycle: Lifecycle,
}

impl Peers {
    /// Follows them until the agent stops.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let stopping = self.lifecycle.stopping();
        let mut followed: HashMap<u64, CancellationToken> = HashMap::new();
        let mut again = tokio::time::interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.follow(&mut followed);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                Ok(()) = self.own.changed() => self.tell_own(),
                // As others do, whether it has changed or not.
                _ = again.tick() => self.tell_own(),
                Ok(()) = self.links.changed() => self.follow(&mut followed),
            }
        }
    }

    fn tell_own(&mut self) {
        let own = self.own.borrow_and_update().clone();
        self.supplies.told(self.node, own);
    }

    /// Begins with those that are linked now, ends with those that are not any more.
    fn follow(&mut self, followed: &mut HashMap<u64, CancellationToken>) {
        let linked = self.links.borrow_and_update().clone();
        followed.retain(|node, token| {
            let is_linked = linked.contains(node);
            if !is_linked {
                token.cancel();
                self.supplies.lost(*node);
            }
            is_linked
        });
        for node in linked {
            followed.entry(node).or_insert_with(|| {
                let token = self.lifecycle.stopping().child_token();
                let (supplies, session, stop) = (self.supplies.clone(), self.session.clone(), token.clone());
                self.lifecycle
                    .spawn(Kind::Connection, "supply of a node", async move {
                        stop.run_until_cancelled(follow(&supplies, &session, node)).await;
                        Ok(())
                    });
                token
            });
        }
    }
}

/// Asks again whenever the call ends, or says nothing: the link may have been lost and be back before it was missed here.
async fn follow(supplies: &Supplies, session: &Session, node: u64) {
    let mut backoff = Backoff::default();
    loop {
        if let Err(error) = listen(supplies, session, node, &mut backoff).await {
            debug!(node, %error, "a node does not tell its supply");
        }
        backoff.rest().await;
    }
}

async fn listen(
    supplies: &Supplies,
    session: &Session,
    node: u64,
    backoff: &mut Backoff,
) -> Result<(), CallError> {
    let uri = uris::of_node(node, uris::node::EXECUTOR_SUPPLY);
    let options = CallOptions {
        progress: true,
        receive_progress: true,
        ..CallOptions::default()
    };
    let mut call = session.call(&uri, PayloadBuf::default(), options).await?;
    loop {
        let Ok(answer) = timeout(SILENT_AFTER, call.next()).await else {
            return Ok(());
        };
        let answer = answer?;
        // What cannot be read is no supply that is known.
        if let Ok(supply) = reservation::parse::<Supply>(answer.payload.as_payload()) {
            supplies.told(node, supply);
            backoff.reset();
        }
        if !answer.progress {
            return Ok(());
        }
        // It was taken, and the next may come.
        call.send(PayloadBuf::default(), true).await?;
    }
}
