//! The place of a node's replica: what runs beside one that is in it, and how it comes out of it and in again.
//!
//! | the replica | the node |
//! |---|---|
//! | has a state that is not the majority's | takes it out for good: it is sick until it is reset |
//! | ended by itself: its disk refused something, or was full | goes on without it, says why, and opens it again after a rest |
//! | is refused when it is opened again | is sick until it is reset |
//!
//! Always: a replica that ended answers nobody any more, and nothing it had in memory is used again: what is opened is
//! what lies on the disk, as after a kill.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::identity::{self, Identity};
use super::sick;
use crate::client::routing::Routing;
use crate::replica::{Replica, damage, examine, leader_tasks, purge};
use crate::{Error, Status, task};

/// Rest before a replica that ended is opened again the first time, longer than a leader's lease: opened, it knows nothing
/// of the leader that it heard before. Then twice as long each time ...
const REST_MIN: Duration = Duration::from_millis(500);
/// ... and no longer than this: a disk that has room again is found soon, and one that has none is not kept busy.
const REST_MAX: Duration = Duration::from_secs(5);
/// A replica that lived for so long was well: if it ends, that is another matter than the last time.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// Where a node's replica is, and what the node has to know to bring it back.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) routing: Arc<Routing>,
    pub(super) identity: Arc<Mutex<Option<Identity>>>,
    /// Where its tasks run, whoever calls.
    pub(super) runtime: Handle,
    pub(super) tasks: TaskTracker,
}

/// Why a replica is to leave its place.
enum Leaving {
    /// Its state is not the majority's.
    Differs(String),
    /// It ended by itself.
    Ended(String),
}

impl Place {
    /// Puts the replica in its place, has it do what a leader has to whenever it leads, and takes it out once its state
    /// is known to be wrong or it has ended.
    pub(super) fn put(&self, replica: &Arc<Replica>) {
        self.put_after(replica, REST_MIN);
    }

    /// The same; `rest` comes before it is opened again, should it end as soon as the one before.
    fn put_after(&self, replica: &Arc<Replica>, rest: Duration) {
        let out = self.routing.stop.child_token();
        let options = &self.routing.options;
        let history = leader_tasks::History::of(options);
        let tasks = leader_tasks::run(replica.clone(), history, out.clone());
        self.tasks.spawn_on(task::scoped(tasks), &self.runtime);
        let purging = purge::run(replica.clone(), purge::Interval::of(options), out.clone());
        self.tasks.spawn_on(task::scoped(purging), &self.runtime);
        self.routing.peers.set_replica(Some(replica.clone()));
        self.routing.peers.note_sick(None);
        let (place, replica) = (self.clone(), replica.clone());
        let watched = async move {
            let begun = Instant::now();
            let leaving = place.leaving(&replica).await;
            out.cancel();
            match leaving {
                None => {}
                Some(Leaving::Differs(why)) => place.take_out(&replica, why).await,
                Some(Leaving::Ended(why)) => {
                    let rest = if begun.elapsed() < WELL_AFTER {
                        rest
                    } else {
                        REST_MIN
                    };
                    place.go_on_without(&replica, &why);
                    replica.shutdown().await;
                    drop(replica);
                    place.open_again(rest).await;
                }
            }
        };
        self.tasks.spawn_on(task::scoped(watched), &self.runtime);
    }

    /// Waits until the replica is to leave; nothing if the node stops first.
    async fn leaving(&self, replica: &Arc<Replica>) -> Option<Leaving> {
        let stop = &self.routing.stop;
        tokio::select! {
            why = examine::run(replica.clone(), stop.clone()) => why.map(Leaving::Differs),
            why = stop.run_until_cancelled(replica.end()) => why.map(Leaving::Ended),
        }
    }

    /// Goes on as a handle, of which the others are told why.
    fn go_on_without(&self, replica: &Replica, why: &str) {
        tracing::error!("the store of this node has ended ({why}); it is opened again");
        self.note_out(replica, format!("its store has ended and is opened again: {why}"));
    }

    /// Opens the replica again, however often that takes.
    async fn open_again(&self, mut rest: Duration) {
        let Routing {
            options, peers, stop, ..
        } = &*self.routing;
        let known = self.known().map(|identity| identity.id);
        let Some(id) = known else { return };
        while stop.run_until_cancelled(sleep(rest)).await.is_some() {
            rest = (rest * 2).min(REST_MAX);
            match Replica::open(options, id, &peers.means(), false).await {
                Ok(replica) => {
                    tracing::info!("the store of this node is open again");
                    return self.put_after(&replica, rest);
                }
                Err(Error::Corrupt(why)) => {
                    let why = damage::advised(&why, &options.name);
                    tracing::error!("{why}; this node goes on without a replica");
                    return peers.note_sick(Some(why));
                }
                Err(error) => {
                    tracing::warn!(%error, "the store of this node cannot be opened again yet");
                    peers.note_sick(Some(format!("its store cannot be opened yet: {error}")));
                }
            }
        }
    }

    /// Takes a replica out whose state is wrong. It answers nobody any more; the node goes on as a handle.
    async fn take_out(&self, replica: &Replica, why: String) {
        let options = &self.routing.options;
        let why = damage::advised(&why, &options.name);
        tracing::error!("{why}; this node's replica is taken out");
        replica.agreement.condemn();
        let members = self.routing.status().members;
        if let Some(identity) = &mut *self.identity.lock().unwrap_or_else(PoisonError::into_inner) {
            identity.members = members;
        }
        self.note_out(replica, why.clone());
        let dir = &options.dir;
        let written = sick::write(dir, &why)
            .and_then(|()| self.known().map_or(Ok(()), |known| identity::write(dir, &known)));
        if let Err(error) = written {
            tracing::error!(%error, "the folder does not say that its replica is out");
        }
        replica.step_down().await;
        replica.shutdown().await;
    }

    /// From now on the node is a handle, and says why.
    fn note_out(&self, replica: &Replica, why: String) {
        let peers = &self.routing.peers;
        let group = replica.status();
        let leader = group.leader.filter(|leader| *leader != replica.id);
        peers.note_group(Status { leader, ..group });
        peers.note_sick(Some(why));
        peers.set_replica(None);
    }

    fn known(&self) -> Option<Identity> {
        self.identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Replica {
    /// Waits until Raft has ended by itself, and says why.
    async fn end(&self) -> String {
        // These change seldom, and go with Raft.
        let mut metrics = self.raft.server_metrics();
        while metrics.changed().await.is_ok() {}
        let metrics = self.raft.metrics();
        match &metrics.borrow_watched().running_state {
            Err(fatal) => fatal.to_string(),
            Ok(()) => "Raft stopped".into(),
        }
    }
}
