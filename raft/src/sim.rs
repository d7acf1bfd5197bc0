//! What a simulation sees of the store and does to it; compiled with `--cfg sim` alone.
//!
//! The store tells what it has done in [`Event`]s, which the world takes after each step; all of a world is on one
//! thread. Where a limit, the time of a disk or a mistake is drawn, the store asks the seam.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use openraft::EntryPayload;
use openraft::rt::deterministic_rng::DeterministicRng;

pub use pipes_sim_seam::{Mutant, is_mutant};

use crate::command::{ApplyResult, Command};
use crate::type_config::{Entry, LogId, Vote};
use crate::{Error, Txn, TxnResult};

/// openraft's runtime, its numbers drawn from the seed.
pub(crate) type Runtime = DeterministicRng<openraft::impls::TokioRuntime>;

/// A place in the log: the term, the leader that wrote it, the index.
pub type Place = (u64, u64, u64);

/// What the store of `host` has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose store.
    pub host: String,
    /// What.
    pub deed: Deed,
}

/// What a store has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// The log was opened.
    LogOpened {
        /// Term, node, and whether it was granted by a quorum.
        vote: Option<(u64, u64, bool)>,
        /// The last entry.
        last: Option<Place>,
        /// The last entry purged.
        purged: Option<Place>,
        /// Whether the disk would keep it.
        is_synced: bool,
    },
    /// It was told that a vote is on disk.
    VoteKept {
        /// Term, node, and whether it was granted by a quorum.
        vote: (u64, u64, bool),
        /// Whether the disk would keep it.
        is_synced: bool,
    },
    /// Members were put into the log; they count from now on.
    MembersProposed {
        /// Where.
        place: Place,
        /// The voters, of which each list needs a majority.
        voters: Vec<Vec<u64>>,
    },
    /// It was told that entries are on disk.
    Appended {
        /// Where they lie, each with its content's checksum.
        entries: Vec<(Place, u32)>,
        /// Whether the disk would keep them.
        is_synced: bool,
    },
    /// It begins to drop entries after this place; a crash may come before or after.
    Truncating {
        /// The last that is left.
        last: Option<Place>,
    },
    /// It was told that entries after this place are gone.
    Truncated {
        /// The last that is left.
        last: Option<Place>,
        /// Whether the disk would keep it so.
        is_synced: bool,
    },
    /// It was told that entries up to this place are gone.
    Purged {
        /// The last that is gone.
        upto: Place,
    },
    /// An entry was applied.
    Applied {
        /// Which.
        place: Place,
        /// What it asked for.
        write: Write,
        /// What applying it answered.
        answer: Answered,
        /// The store's revision after it.
        revision: i64,
        /// What the store's clock read at least, after it.
        clock_ms: u64,
    },
    /// The state was opened, or replaced by a snapshot.
    StateSet {
        /// The last entry applied in it.
        applied: Option<Place>,
        /// Its revision.
        revision: i64,
        /// Whether a snapshot came from a leader.
        is_installed: bool,
    },
    /// It runs under this node id.
    Identified {
        /// The id.
        id: u64,
    },
    /// A snapshot has its name.
    SnapshotKept {
        /// The last entry it covers.
        upto: Option<Place>,
        /// Whether the disk would keep it.
        is_synced: bool,
    },
}

/// What an entry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Nothing.
    Blank,
    /// Other members: the voters, of which each list needs a majority.
    Members(Vec<Vec<u64>>),
    /// A transaction.
    Txn(Txn),
    /// A lease, with its milliseconds.
    Grant(i64, u64),
    /// The end of a lease by its owner.
    Revoke(i64),
    /// The end of leases by the leader.
    Expire(Vec<i64>),
    /// The end of history before a revision.
    Compact(i64),
    /// A node's id.
    Allocate,
    /// It cannot be read.
    Unreadable,
}

/// What applying an entry answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// Nothing.
    Nothing,
    /// A transaction's answer.
    Txn(TxnResult),
    /// An id.
    Id(i64),
    /// Done, at a revision.
    Done(i64),
    /// Refused by all alike.
    Failed(Error),
}

thread_local! {
    static EVENTS: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
    static HOST: RefCell<(String, u64)> = const { RefCell::new((String::new(), 0)) };
}

/// Takes the events since the last call.
pub fn take_events() -> Vec<Event> {
    EVENTS.with_borrow_mut(std::mem::take)
}

/// Says whose tasks run from now on, and a seed for what they begin.
pub fn enter(host: &str, seed: u64) {
    HOST.with_borrow_mut(|known| {
        known.0.clear();
        known.0.push_str(host);
        known.1 ^= seed;
    });
}

/// Where the last whole frame of a file begins; 0 if it has none.
pub fn last_frame(bytes: &[u8]) -> u64 {
    use crate::format::{FILE_HEAD_LEN, FRAME_HEAD_LEN, FrameReader, ReadFrame};
    let Some(body) = bytes.get(FILE_HEAD_LEN..) else {
        return 0;
    };
    let mut frames = FrameReader::new(body, FILE_HEAD_LEN as u64);
    let mut last = 0;
    while let Ok(ReadFrame::Whole(_, body, _)) = frames.next() {
        last = body - FRAME_HEAD_LEN as u64;
    }
    last
}

/// Forgets what the world before left.
pub fn reset() {
    EVENTS.take();
    HOST.take();
}

fn fresh_seed() -> u64 {
    HOST.with_borrow_mut(|known| {
        known.1 = known
            .1
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        known.1 >> 7 ^ known.1 << 11
    })
}

/// Lets a task have chance of its own, as whatever calls openraft must.
pub fn scoped<F: Future>(future: F) -> impl Future<Output = F::Output> {
    Runtime::scope(fresh_seed(), future)
}

/// Waits as long as the disk of the host that runs is held up.
pub(crate) async fn stall() {
    let host = HOST.with_borrow(|known| known.0.clone());
    stall_at(Path::new(&host)).await;
}

/// Waits as long as the disk under `path` is held up.
pub(crate) async fn stall_at(path: &Path) {
    let held_up = pipes_sim_seam::disk::stall(path);
    if held_up > Duration::ZERO {
        tokio::time::sleep(held_up).await;
    }
}

/// Notes what a store did; `dir` lies on its disk.
pub(crate) fn tell(dir: &Path, deed: Deed) {
    let host = pipes_sim_seam::disk::host(dir);
    // What a process's destructors do is not done.
    if !pipes_sim_seam::disk::is_off(&host) {
        EVENTS.with_borrow_mut(|events| events.push(Event { host, deed }));
    }
}

/// Notes members among entries that are put into the log of whose writer this host runs.
pub(crate) fn tell_members(entries: &[Entry]) {
    let host = HOST.with_borrow(|known| known.0.clone());
    for entry in entries {
        if let Write::Members(voters) = write(entry) {
            let place = place(&entry.log_id);
            tell(Path::new(&host), Deed::MembersProposed { place, voters });
        }
    }
}

/// Notes that a snapshot has its name.
pub(crate) fn tell_kept(path: &Path, upto: Option<&LogId>) {
    let deed = Deed::SnapshotKept {
        upto: upto.map(place),
        is_synced: pipes_sim_seam::disk::is_file_synced(path),
    };
    tell(path, deed);
}

/// Whether an entry is passed over, where that mistake is wanted.
pub(crate) fn is_skipped(dir: &Path, entry: &Entry) -> bool {
    let is_here = pipes_sim_seam::disk::host(dir) == "n2";
    is_here && entry.log_id.index % 97 == 0 && is_mutant(Mutant::EntrySkipped)
}

/// Notes that an entry was applied.
pub(crate) fn tell_applied(
    dir: &Path,
    entry: &Entry,
    answer: Option<&ApplyResult>,
    (revision, clock_ms): (i64, u64),
) {
    let deed = Deed::Applied {
        place: place(&entry.log_id),
        write: write(entry),
        answer: answer.map_or(Answered::Nothing, answered),
        revision,
        clock_ms,
    };
    tell(dir, deed);
}

pub(crate) fn is_synced(dir: &Path) -> bool {
    pipes_sim_seam::disk::is_synced(dir)
}

pub(crate) fn place(log_id: &LogId) -> Place {
    let leader = log_id.leader_id;
    (leader.term, leader.node_id, log_id.index)
}

pub(crate) fn vote(vote: &Vote) -> (u64, u64, bool) {
    (vote.leader_id.term, vote.leader_id.node_id, vote.committed)
}

/// A checksum of what an entry asks for.
pub(crate) fn content(entry: &Entry) -> u32 {
    let mut bytes = Vec::new();
    match crate::type_config::encode_into(&entry.payload, &mut bytes) {
        Ok(()) => crc32fast::hash(&bytes),
        Err(_) => 0,
    }
}

pub(crate) fn write(entry: &Entry) -> Write {
    match &entry.payload {
        EntryPayload::Blank => Write::Blank,
        EntryPayload::Membership(members) => Write::Members(
            members
                .get_joint_config()
                .iter()
                .map(|voters| voters.iter().copied().collect())
                .collect(),
        ),
        EntryPayload::Normal(proposal) => match proposal.command() {
            Ok(Command::Txn(txn) | Command::FormerTxn(txn)) => Write::Txn(txn),
            Ok(Command::Grant { id, ttl_ms }) => Write::Grant(id, ttl_ms),
            Ok(Command::Revoke { id }) => Write::Revoke(id),
            Ok(Command::Expire { ids }) => Write::Expire(ids),
            Ok(Command::Compact { revision }) => Write::Compact(revision),
            Ok(Command::Allocate { name: _ }) => Write::Allocate,
            Ok(Command::BeginChain { chain: _ }) => Write::Blank,
            Err(_) => Write::Unreadable,
        },
    }
}

pub(crate) fn answered(answer: &ApplyResult) -> Answered {
    match answer {
        ApplyResult::Nothing => Answered::Nothing,
        ApplyResult::Txn(result) => Answered::Txn(result.clone()),
        ApplyResult::Id(id) => Answered::Id(*id),
        ApplyResult::Done(revision) => Answered::Done(*revision),
        ApplyResult::Failed(error) => Answered::Failed(error.clone()),
    }
}
