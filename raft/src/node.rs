//! A node of the group: opens what lies on disk, starts Raft over it, joins, serves its peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, Store, Transport};

/// How a node is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder that is the store's alone.
    pub dir: PathBuf,
    /// The cluster's id: a folder of another cluster is refused.
    pub cluster: String,
    /// This node's name, told to the group.
    pub name: String,
    /// How often the leader makes itself heard.
    pub heartbeat: Duration,
    /// The shortest time without a leader after which a node stands for election.
    pub election_min: Duration,
    /// The longest; it is also the leader's lease.
    pub election_max: Duration,
    /// How long a request may take before it is answered with an error.
    pub request_timeout: Duration,
    /// Entries after which a snapshot is made and the log before it purged.
    pub snapshot_entries: u64,
}

impl Options {
    /// The options of a node in `dir` of `cluster`, all else at its default.
    pub fn new(dir: impl Into<PathBuf>, cluster: impl Into<String>) -> Options {
        Options {
            dir: dir.into(),
            cluster: cluster.into(),
            name: String::new(),
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(400),
            request_timeout: Duration::from_secs(5),
            snapshot_entries: 100_000,
        }
    }
}

/// A member of the group as the group knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where its mesh listens.
    pub address: String,
}

/// What a node knows of the group.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// This node's id, once it has one.
    pub id: Option<u64>,
    /// The leader it knows of.
    pub leader: Option<u64>,
    /// The term it is in.
    pub term: u64,
    /// The store's revision as applied here.
    pub revision: i64,
    /// The index of the last log entry applied here.
    pub applied: u64,
    /// The members with a vote.
    pub voters: BTreeSet<u64>,
    /// The members without.
    pub learners: BTreeSet<u64>,
    /// Every member's name and address.
    pub members: BTreeMap<u64, Member>,
}

/// A node of the group.
pub struct Node {
    store: Store,
}

impl Node {
    /// Opens what lies in the folder. A node that is not yet a member (`id` and the folder's `identity` both say
    /// none) is a mere handle until [`Node::initialize`] or [`Node::join`].
    pub async fn open(
        _options: Options,
        _id: Option<u64>,
        _transport: Arc<dyn Transport>,
    ) -> Result<Node, Error> {
        Err(Error::Stopped)
    }

    /// Makes this node the first of a new group, with id 1 and itself alone in it.
    pub async fn initialize(&self, _address: SocketAddr) -> Result<(), Error> {
        Err(Error::Stopped)
    }

    /// Whether a log lies here: this node has been of a group.
    pub fn has_log(&self) -> bool {
        false
    }

    /// This node's id, once it has one; it lies in the folder's `identity`.
    pub fn id(&self) -> Option<u64> {
        None
    }

    /// Answers what a peer's [`Transport::call`] carried.
    pub async fn serve(&self, _request: Vec<u8>) -> Vec<u8> {
        Vec::new()
    }

    /// Joins the group that `via` are of: takes an id if it has none, follows as a learner and is given a vote while
    /// there are fewer than five. Returns the id once this node has what the group had when it was asked.
    pub async fn join(&self, _via: &[SocketAddr], _name: &str, _address: SocketAddr) -> Result<u64, Error> {
        Err(Error::Stopped)
    }

    /// The handle to the store.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// What this node knows of the group.
    pub fn status(&self) -> Status {
        Status::default()
    }

    /// Ends Raft, flushes, closes the files.
    pub async fn shutdown(self) {}
}
