//! What becomes of a replica whose files are damaged or gone: never a start with less than was acknowledged.
//!
//! | in `raft/` | damaged | gone |
//! |---|---|---|
//! | `identity` | refused | refused where a log, a snapshot or a state lies beside it; else a new node |
//! | `log/`, or its first or a middle segment | refused | refused |
//! | `log/`, the last frame | cut off where no later frame follows: it was never synced | - |
//! | `log/`, entries before what is in the state or the snapshot | - | refused: the log lost its tail |
//! | `log/`, the vote | refused, with its frame | refused where an entry has a later term |
//! | `snapshots/` | made anew from the state; refused where the state does not reach as far as the log was purged | the same |
//! | `state.N/` | set aside and made anew from snapshot and log (`state/open.rs`) | made anew; refused as above |
//! | `lock`, `*.part` | nothing lies in it | made anew |
//!
//! A log that lost its tail is told by the state, which is given only what the log has synced (`state/memtable.rs`).
//! Blobs, which other voters have, are fetched: the agent's `blob/store.rs`.

use std::path::Path;

use openraft::LogIdOptionExt as _;

use crate::Error;
use crate::log::Log;
use crate::type_config::{LogId, Vote};

/// What was read of a replica's files, each sound in itself.
pub(super) struct Found<'a> {
    pub(super) dir: &'a Path,
    pub(super) vote: Option<Vote>,
    /// The last entry, purged or not.
    pub(super) last: Option<LogId>,
    /// The last one purged.
    pub(super) purged: Option<LogId>,
    /// The last one in the newest snapshot.
    pub(super) snapshot: Option<LogId>,
    /// The last one in the state.
    pub(super) applied: Option<LogId>,
}

impl Found<'_> {
    /// Holds the files against each other.
    pub(super) fn check(&self) -> Result<(), Error> {
        let log = self.dir.join("log");
        let refuse = |path: &Path, why: String| Err(Error::Corrupt(format!("{}: {why}", path.display())));
        let known = self.last.max(self.snapshot);
        if self.applied > known && !crate::mutant!(PurgedToApplied) {
            let (end, applied) = (known.next_index(), self.applied.next_index());
            let why = format!(
                "it ends before entry {end}, and the state beside it has {applied}: what was acknowledged between is lost"
            );
            return refuse(&log, why);
        }
        let term = known.map_or(0, |log_id| log_id.leader_id.term);
        let voted = self.vote.map_or(0, |vote| vote.leader_id.term);
        if voted < term {
            let why = format!("the vote of term {term} or later is lost, and another could be given for it");
            return refuse(&log, why);
        }
        if self.purged > self.applied {
            let purged = self.purged.map_or(0, |log_id| log_id.index);
            let why =
                format!("the log begins after entry {purged}, and no snapshot or state reaches that far");
            return refuse(self.dir, why);
        }
        Ok(())
    }
}

/// Whether `dir`, in which no identity lies, holds what a node would lose that begins anew there. A node that died
/// while it was made left an empty log and an empty state.
pub(crate) fn holds_replica(dir: &Path) -> Result<bool, Error> {
    let log = dir.join("log");
    if is_any(&dir.join("snapshots"), |name| name.ends_with(".snap"))? {
        return Ok(true);
    }
    if Log::is_there(&log)? {
        return Log::was_used(&log);
    }
    // Of a log whose making was interrupted there is no state yet.
    is_any(dir, |name| name.starts_with("state."))
}

fn is_any(dir: &Path, is_one: impl Fn(&str) -> bool) -> Result<bool, Error> {
    let io_error = |error: std::io::Error| crate::format::disk(dir, &error);
    let files = match crate::fs::read_dir(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io_error(error)),
    };
    for file in files {
        if is_one(&file.map_err(io_error)?.file_name().to_string_lossy()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The one sentence that says why the node of this name has no replica, and what to do.
pub(crate) fn advised(why: &str, name: &str) -> String {
    format!("{why}; with a majority of the others up, `pipes node reset {name}` makes this node a new member")
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId as _;

    use super::*;
    use crate::type_config::TypeConfig;

    fn id(term: u64, index: u64) -> Option<LogId> {
        type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
        Some(LogId::new(LeaderId::new(term, 1).to_committed(), index))
    }

    /// A node that has voted in term 3, with a snapshot of 90 entries.
    fn sound() -> Found<'static> {
        Found {
            dir: Path::new("/raft"),
            vote: Some(Vote::new(3, 1)),
            last: id(3, 120),
            purged: id(2, 80),
            snapshot: id(2, 90),
            applied: id(3, 110),
        }
    }

    #[test]
    fn files_that_contradict_each_other_are_refused_with_what_is_lost() {
        type Change = fn(&mut Found<'_>);
        let cases: [(Change, Option<&str>); 7] = [
            (|_| (), None),
            (|found| found.applied = id(2, 90), None),
            (|found| found.snapshot = None, None),
            (
                |found| found.last = id(2, 85),
                Some("/raft/log: it ends before entry 91"),
            ),
            (
                |found| found.vote = None,
                Some("/raft/log: the vote of term 3 or later is lost"),
            ),
            (
                |found| found.vote = Some(Vote::new(2, 3)),
                Some("/raft/log: the vote of term 3"),
            ),
            (
                |found| (found.snapshot, found.applied) = (None, None),
                Some("begins after entry 80"),
            ),
        ];
        for (at, (change, expected)) in cases.into_iter().enumerate() {
            let mut found = sound();
            change(&mut found);
            let refused = found.check().err().map(|error| error.to_string());
            match (refused, expected) {
                (None, None) => {}
                (Some(refused), Some(expected)) => assert!(refused.contains(expected), "{at}: {refused}"),
                (refused, _) => panic!("{at}: {refused:?}"),
            }
        }
    }
}
