//! What a node is opened with, who is of a group, and what a node knows of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

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
    /// Entries after which a snapshot is made and the log before it purged ...
    pub snapshot_entries: u64,
    /// ... or octets of them in the log, whichever comes first.
    pub snapshot_bytes: u64,
    /// Octets of the disk that history may take: it lies there twice, in the state and in the newest snapshot.
    pub history_bytes: u64,
    /// How long history is kept, if there is no more of it than that.
    pub history_age: Duration,
    /// Revisions of history, if they are no older and take no more.
    pub history_revisions: u64,
    /// For tests, and without effect where debug assertions are off: a put to one of these keys writes the value beside
    /// it here, whatever it writes elsewhere.
    pub applied_differently: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Options {
    /// The options of a node in `dir` of `cluster`, all else at its default.
    pub fn new(dir: impl Into<PathBuf>, cluster: impl Into<String>) -> Options {
        Options {
            dir: dir.into(),
            cluster: cluster.into(),
            name: String::new(),
            heartbeat: Duration::from_millis(125),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(400),
            request_timeout: Duration::from_secs(5),
            snapshot_entries: 100_000,
            snapshot_bytes: 64 * MIB,
            history_bytes: 256 * MIB,
            history_age: Duration::from_secs(60 * 60),
            history_revisions: 1_000_000,
            applied_differently: Vec::new(),
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

/// All keys of a replica at one revision, summed up.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Content {
    /// How many they are.
    pub keys: u64,
    /// The digest of keys, values and their numbers.
    pub digest: String,
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
    /// Why no replica runs here although one should.
    pub sick: Option<String>,
    /// Whether replicas differ and no majority of them agrees.
    pub is_in_doubt: bool,
}
