//! What is known of jobs beside what the store holds: which attempts run where, what clients gave and were told, what the
//! workflows say.

use std::collections::{BTreeMap, BTreeSet};

use pipes_job::state::Terms;
use tokio::sync::watch;

/// An attempt that is under way.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// The node of its agent.
    pub node: u64,
    /// How long its host had lived when it began, in milliseconds.
    pub since_ms: u64,
    /// How long its host had lived when its store had applied that the job is another's.
    pub is_late_since: Option<u64>,
}

/// A job whose ID was answered.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Its workflow.
    pub workflow: String,
    /// What it was given.
    pub input: Vec<u8>,
}

/// What is known of jobs.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The attempts that ever began, each with its host.
    pub begun: BTreeMap<(String, u32), usize>,
    /// Those under way, by host, job and attempt.
    pub running: BTreeMap<(usize, String, u32), Running>,
    /// The jobs whose IDs were answered.
    pub accepted: BTreeMap<String, Accepted>,
    /// Jobs whose cancellation was answered while they were open.
    pub cancelled: BTreeSet<String>,
    /// Blobs that some holder has, by SHA-256.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// How long each host has lived: what it stood still does not count, nor what it was down.
    pub lived_ms: BTreeMap<usize, u64>,
    /// How long it had lived when a voter last answered it.
    pub answered_ms: BTreeMap<usize, u64>,
    /// What the workflows say; every agent hears of it at once.
    pub wishes: watch::Sender<BTreeMap<String, Terms>>,
    /// Hosts that are to stop in order.
    pub stopping: watch::Sender<BTreeSet<usize>>,
    /// Hosts whose agents have stopped.
    pub stopped: Vec<usize>,
    /// What each host's agent says at the end.
    pub looked: BTreeSet<usize>,
}

impl Ledger {
    /// How long a host has lived, in milliseconds.
    pub fn lived(&self, host: usize) -> u64 {
        self.lived_ms.get(&host).copied().unwrap_or(0)
    }

    /// A host has lived for a millisecond more.
    pub fn lives(&mut self, host: usize) {
        *self.lived_ms.entry(host).or_default() += 1;
    }

    /// A voter has answered a host that asked when it had lived for `asked_ms`.
    pub fn is_answered(&mut self, host: usize, asked_ms: u64) {
        let answered = self.answered_ms.entry(host).or_default();
        *answered = asked_ms.max(*answered);
    }
}
