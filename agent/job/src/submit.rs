//! A job is accepted: its input and its record, in one transaction, before its ID is answered.
//!
//! ```text
//! if   presence/2 hangs on the owner's lease, workflows/W is there, open/W/ID and (with a key) keys/W/HASH are not,
//!      a blob of input may be named
//! then open/W/ID, ids/ID, input/ID or the blob's name, keys/W/HASH
//! else what is there of them, which says why not
//! ```
//!
//! It compares that it has not been done, so that one whose answer was lost may be sent again.

use pipes_raft::{Compare, Op, OpResult, Range, Txn, TxnResult};

use crate::blobs::Naming;
use crate::key;
use crate::record::{Content, Open, Owner, SMALL_MAX, Used, decode, encode};

/// What comes with a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Up to [`SMALL_MAX`] bytes.
    Small(Vec<u8>),
    /// A blob that a majority of the voters has.
    Blob(Content),
}

impl Input {
    /// What it is.
    pub fn content(&self) -> Content {
        match self {
            Input::Small(bytes) => Content {
                bytes: bytes.len() as u64,
                sha256: key::sha256(bytes),
                blob: false,
            },
            Input::Blob(content) => content.clone(),
        }
    }
}

/// A job to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Its ID.
    pub id: String,
    /// Its workflow.
    pub workflow: String,
    /// Its record.
    pub open: Open,
    /// What comes with it.
    pub input: Input,
}

/// What a submission came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, since this revision.
    Accepted(i64),
    /// The same was submitted with this key before.
    Known(String),
    /// The key came with other input.
    Conflict(String),
    /// There is no such workflow.
    NoWorkflow,
    /// The owner's life is over, or the blob is about to be collected: once more from the beginning.
    Again,
}

/// The transaction.
pub fn txn(submission: &Submission, owner: Owner, naming: &Naming) -> Txn {
    let Submission {
        id,
        workflow,
        open,
        input,
    } = submission;
    debug_assert!(matches!(input, Input::Blob(_)) || open.input.bytes <= SMALL_MAX as u64);
    let (own, input_key) = (key::open(workflow, id), key::input(id));
    let mut compares = vec![
        owner.lives(),
        Compare::exists(key::workflow(workflow)),
        Compare::absent(own.clone()),
        // A sending that was done is told also when the job has ended since.
        Compare::absent(key::id(id)),
    ];
    compares.extend(naming.compares());
    let mut success = vec![
        Op::put(own.clone(), encode(open)),
        Op::put(key::id(id), workflow.as_str()),
    ];
    success.extend(naming.names(&input_key, None));
    if let Input::Small(bytes) = input {
        success.push(Op::put(input_key, bytes.clone()));
    }
    let mut failure = vec![
        Op::Range(Range::key(own)),
        Op::Range(Range::key(key::workflow(workflow))),
        Op::Range(Range::key(key::id(id))),
    ];
    if let Some(sha256) = &open.key {
        let idempotency = key::idempotency(workflow, sha256);
        let used = Used {
            id: id.clone(),
            input_sha256: open.input.sha256.clone(),
        };
        if !crate::mutant!(KeyUncompared) {
            compares.push(Compare::absent(idempotency.clone()));
        }
        success.push(Op::put(idempotency.clone(), encode(&used)));
        failure.push(Op::Range(Range::key(idempotency)));
    }
    Txn {
        compares,
        success,
        failure,
    }
}

/// Reads its answer.
pub fn outcome(submission: &Submission, answer: &TxnResult) -> Outcome {
    if answer.succeeded {
        return Outcome::Accepted(answer.revision);
    }
    let read = |index: usize| match answer.responses.get(index) {
        Some(OpResult::Range(read)) => read.kvs.first(),
        _ => None,
    };
    if let Some(own) = read(0) {
        return Outcome::Accepted(own.mod_revision);
    }
    if read(2).is_some() {
        return Outcome::Known(submission.id.clone());
    }
    if let Some(used) = read(3).and_then(|kv| decode::<Used>(&kv.value)) {
        return match (
            used.id == submission.id,
            used.input_sha256 == submission.open.input.sha256,
        ) {
            // Ours, whose answer was lost, and it has ended meanwhile.
            (true, _) | (_, true) => Outcome::Known(used.id),
            (false, false) => Outcome::Conflict(used.id),
        };
    }
    match read(1) {
        None => Outcome::NoWorkflow,
        Some(_) => Outcome::Again,
    }
}

#[cfg(test)]
mod tests {
    use pipes_raft::{CompareOp, KeyValue, RangeResult, Target};

    use super::*;

    const OWN: Owner = Owner { node: 2, lease: 22 };

    fn submission() -> Submission {
        let input = Input::Small(b"x".to_vec());
        Submission {
            id: "j1".into(),
            workflow: "w".into(),
            open: Open {
                key: Some("hash".into()),
                ..Open::accepted(Some(OWN), 0, input.content())
            },
            input,
        }
    }

    fn refused(found: [Option<Vec<u8>>; 4]) -> TxnResult {
        let read = |value: Option<Vec<u8>>| {
            let kv = value.map(|value| KeyValue {
                value,
                mod_revision: 7,
                ..KeyValue::default()
            });
            OpResult::Range(RangeResult {
                kvs: kv.into_iter().collect(),
                ..RangeResult::default()
            })
        };
        TxnResult {
            responses: found.map(read).to_vec(),
            ..TxnResult::default()
        }
    }

    #[test]
    fn a_job_is_accepted_only_by_an_owner_that_lives_and_never_twice() {
        let txn = txn(&submission(), OWN, &Naming::none());
        let compares = [
            Compare::key(key::presence(2), CompareOp::Equal, Target::Lease(22)),
            Compare::exists(key::workflow("w")),
            Compare::absent(key::open("w", "j1")),
            Compare::absent(key::id("j1")),
            Compare::absent(key::idempotency("w", "hash")),
        ];
        assert_eq!(txn.compares, compares);
        let put = |op: &Op| match op {
            Op::Put { key, lease: None, .. } => key.clone(),
            op => panic!("{op:?} hangs on a lease, or is no put"),
        };
        let keys: Vec<Vec<u8>> = txn.success.iter().map(put).collect();
        let all = [
            key::open("w", "j1"),
            key::id("j1"),
            key::input("j1"),
            key::idempotency("w", "hash"),
        ];
        assert_eq!(keys, all);
    }

    #[test]
    fn what_is_there_says_why_it_was_not_done() {
        let (submission, wish) = (submission(), Some(b"{}".to_vec()));
        let used = |id: &str, input: &str| {
            let used = Used {
                id: id.into(),
                input_sha256: input.into(),
            };
            Some(encode(&used))
        };
        let ours = submission.open.input.sha256.clone();
        for (found, expected) in [
            (
                [
                    Some(encode(&submission.open)),
                    wish.clone(),
                    Some(b"w".to_vec()),
                    used("j1", &ours),
                ],
                Outcome::Accepted(7),
            ),
            (
                [None, wish.clone(), Some(b"w".to_vec()), used("j1", &ours)],
                Outcome::Known("j1".into()),
            ),
            (
                [None, wish.clone(), None, used("j0", &ours)],
                Outcome::Known("j0".into()),
            ),
            (
                [None, wish.clone(), None, used("j0", "other")],
                Outcome::Conflict("j0".into()),
            ),
            ([None, None, None, None], Outcome::NoWorkflow),
            ([None, wish, None, None], Outcome::Again),
        ] {
            assert_eq!(outcome(&submission, &refused(found)), expected);
        }
    }
}
