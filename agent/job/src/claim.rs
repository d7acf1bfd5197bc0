//! The records of open jobs change hands: an attempt begins, an agent lets go, another takes over.
//!
//! ```text
//! begin      if open/W/ID is as it was read, and the owner's presence hangs on its lease      then its next attempt
//! let go     if open/W/ID is as it was written                                                then no owner, or queued
//! take over  if each is as it was read, the former owner's presence does not hang on its lease, the taker's does
//! ```
//!
//! Each is one transaction that compares the revision of what it changes, so that of two that would change one record one
//! does nothing; and where it fails it reads what is there instead.

use pipes_raft::{Compare, CompareOp, KeyValue, Op, OpResult, Range, Target, Txn, TxnResult};

use crate::key;
use crate::record::{Open, Owner, encode};

/// A job with its record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its ID.
    pub id: String,
    /// Its workflow.
    pub workflow: String,
    /// Its record.
    pub open: Open,
    /// The revision that wrote that.
    pub revision: i64,
}

impl Job {
    /// A job out of the store; `None` for what is none.
    pub fn of(kv: &KeyValue) -> Option<Job> {
        let (workflow, id) = key::read_job(&kv.key)?;
        Some(Job {
            id: id.to_owned(),
            workflow: workflow.to_owned(),
            open: crate::record::decode(&kv.value)?,
            revision: kv.mod_revision,
        })
    }

    /// Its key.
    pub fn key(&self) -> Vec<u8> {
        key::open(&self.workflow, &self.id)
    }

    /// Its record is as it was read.
    pub fn is_unchanged(&self) -> Compare {
        Compare::key(self.key(), CompareOp::Equal, Target::Mod(self.revision))
    }
}

/// The next attempt's record takes the place of the last.
pub fn begin(job: &Job, next: &Open, owner: Owner) -> Txn {
    let mut compares = vec![job.is_unchanged()];
    if !crate::mutant!(BegunAfterLife) {
        compares.push(owner.lives());
    }
    Txn {
        compares,
        success: vec![Op::put(job.key(), encode(next))],
        failure: vec![Op::Range(Range::key(job.key()))],
    }
}

/// Another record takes the place of the one that was read.
pub fn replace(job: &Job, next: &Open) -> Txn {
    Txn {
        compares: vec![job.is_unchanged()],
        success: vec![Op::put(job.key(), encode(next))],
        failure: vec![Op::Range(Range::key(job.key()))],
    }
}

/// Jobs of one former owner, or of none, become `owner`'s.
pub fn take(former: Option<Owner>, jobs: &[(Job, Open)], owner: Owner) -> Txn {
    let mut compares = vec![owner.lives()];
    if !crate::mutant!(TakenFromTheLiving) {
        compares.extend(former.map(is_gone));
    }
    compares.extend(jobs.iter().map(|(job, _)| job.is_unchanged()));
    Txn {
        compares,
        success: jobs
            .iter()
            .map(|(job, next)| Op::put(job.key(), encode(next)))
            .collect(),
        failure: Vec::new(),
    }
}

/// An owner's life is over: its node's presence hangs on another lease, or there is none.
pub fn is_gone(owner: Owner) -> Compare {
    Compare::key(
        key::presence(owner.node),
        CompareOp::NotEqual,
        Target::Lease(owner.lease),
    )
}

/// What a transaction on one record came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is written, by this or an earlier sending, at this revision.
    Written(i64),
    /// Another was there.
    Found(Box<Job>),
    /// There is no such open job any more.
    Gone,
}

/// Reads the answer of a transaction that would have written `next`.
pub fn outcome(job: &Job, next: &Open, answer: &TxnResult) -> Outcome {
    if answer.succeeded {
        return Outcome::Written(answer.revision);
    }
    let found = match answer.responses.first() {
        Some(OpResult::Range(read)) => read.kvs.first().and_then(Job::of),
        _ => None,
    };
    match found {
        // Nobody else writes this attempt of this owner: it was ours, whose answer was lost.
        Some(found) if found.open == *next && found.revision != job.revision => {
            Outcome::Written(found.revision)
        }
        Some(found) => Outcome::Found(Box::new(found)),
        None => Outcome::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Content;
    use crate::state;

    const FORMER: Owner = Owner { node: 1, lease: 11 };
    const OWN: Owner = Owner { node: 2, lease: 22 };

    fn job() -> Job {
        Job {
            id: "j1".into(),
            workflow: "w".into(),
            open: Open::accepted(
                Some(FORMER),
                0,
                Content {
                    bytes: 0,
                    sha256: String::new(),
                    blob: false,
                },
            ),
            revision: 5,
        }
    }

    fn found(open: &Open, revision: i64) -> TxnResult {
        let kv = KeyValue {
            key: key::open("w", "j1"),
            value: encode(open),
            mod_revision: revision,
            ..KeyValue::default()
        };
        let read = pipes_raft::RangeResult {
            kvs: vec![kv],
            ..Default::default()
        };
        TxnResult {
            responses: vec![OpResult::Range(read)],
            ..TxnResult::default()
        }
    }

    #[test]
    fn an_attempt_begins_only_on_the_record_that_was_read_in_a_life_that_lasts() {
        let next = state::begun(&job().open, FORMER, 1, 0);
        let txn = begin(&job(), &next, FORMER);
        let unchanged = Compare::key(key::open("w", "j1"), CompareOp::Equal, Target::Mod(5));
        let lives = Compare::key(key::presence(1), CompareOp::Equal, Target::Lease(11));
        assert_eq!(txn.compares, [unchanged, lives]);
    }

    #[test]
    fn a_job_is_taken_only_where_its_owners_presence_hangs_on_another_lease_or_none() {
        let txn = take(Some(FORMER), &[(job(), job().open)], OWN);
        let lives = Compare::key(key::presence(2), CompareOp::Equal, Target::Lease(22));
        let gone = Compare::key(key::presence(1), CompareOp::NotEqual, Target::Lease(11));
        let unchanged = Compare::key(key::open("w", "j1"), CompareOp::Equal, Target::Mod(5));
        assert_eq!(txn.compares, [lives, gone, unchanged]);
        let handed_over = take(None, &[(job(), job().open)], OWN);
        assert_eq!(handed_over.compares.len(), 2);
    }

    #[test]
    fn a_lost_answer_is_told_from_a_lost_race() {
        let next = state::begun(&job().open, FORMER, 1, 0);
        let written = TxnResult {
            succeeded: true,
            revision: 9,
            ..TxnResult::default()
        };
        assert_eq!(outcome(&job(), &next, &written), Outcome::Written(9));
        assert_eq!(outcome(&job(), &next, &found(&next, 8)), Outcome::Written(8));
        let other = state::begun(&job().open, OWN, 1, 0);
        assert!(
            matches!(outcome(&job(), &next, &found(&other, 8)), Outcome::Found(job) if job.open == other)
        );
        let gone = TxnResult {
            responses: vec![OpResult::Range(pipes_raft::RangeResult::default())],
            ..TxnResult::default()
        };
        assert_eq!(outcome(&job(), &next, &gone), Outcome::Gone);
    }
}
