//! What the store keeps of a job.
//!
//! ```json
//! /pipes/jobs/open/words/j01kb...  {"owner": {"node": 2, "lease": 77}, "state": "running", "attempt": 1, "submitted": 1764500000123,
//!                                   "input": {"bytes": 10, "sha256": "ab.."}, "definition": 3, "started": 1764500000130, ...}
//! /pipes/jobs/done/words/j01kb...  {"state": "succeeded", "status": 0, "attempt": 1, "submitted": .., "finished": ..,
//!                                   "input": {..}, "result": {"bytes": 12, "sha256": "cd.."}, "stages": [..], "expires": ..}
//! ```
//!
//! Always: (1) an open record is under 512 bytes; (2) it changes only by a transaction that compares its revision; (3) a
//! finished one is written once, in the transaction that removes the open one.

use pipes_raft::{Compare, CompareOp, Target};
use serde::{Deserialize, Serialize};

use crate::key;

/// Bytes that lie in a key of their own; more are a blob.
pub const SMALL_MAX: usize = 16 << 10;

/// Whose a job is: a node in one of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// The node's id.
    pub node: u64,
    /// The lease that its presence hangs on as long as this life lasts.
    pub lease: i64,
}

impl Owner {
    /// What holds as long as this life lasts: the node's presence hangs on its lease.
    pub fn lives(self) -> Compare {
        Compare::key(
            key::presence(self.node),
            CompareOp::Equal,
            Target::Lease(self.lease),
        )
    }
}

/// What an open job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpenState {
    /// It waits for its first attempt or another.
    Queued,
    /// An attempt is under way, or was when its owner was lost.
    Running,
}

/// What a job came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DoneState {
    /// Status 0.
    Succeeded,
    /// Any other status, or none.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

/// Bytes that a job was given or made, described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// How many.
    pub bytes: u64,
    /// Of all of them, in hexadecimal digits.
    pub sha256: String,
    /// They lie in a blob, not in a key of their own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub blob: bool,
}

impl Content {
    /// The blob's name, if they are in one.
    pub fn digest(&self) -> Option<String> {
        self.blob.then(|| format!("sha256:{}", self.sha256))
    }
}

/// A job that is queued or runs: the value of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Whose it is; `None`: handed over, for whoever takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Whether an attempt is under way.
    pub state: OpenState,
    /// The last attempt that began, from 1; 0: none yet.
    pub attempt: u32,
    /// When it was accepted, in milliseconds since 1970: for people.
    pub submitted: u64,
    /// What it was given.
    pub input: Content,
    /// SHA-256 of its idempotency key in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The job whose input this one was given again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
    /// Which of its workflow's definitions it runs; decided by its first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<u64>,
    /// When its last attempt began, in milliseconds of the clock that ages run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// The same in milliseconds since 1970: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
    /// What its attempts that ended took together, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spent: u64,
    /// Servers that ended without notice shortly after an attempt began there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub losses: u64,
    /// Attempts in a row that failed for Pipes' own reasons.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mishaps: u64,
    /// Attempts whose status was not 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u64,
    /// Somebody wants it cancelled.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cancel: bool,
}

/// A job after its end: the value of its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// What it came to.
    pub state: DoneState,
    /// As a shell gives it; `None`: no attempt came so far.
    pub status: Option<i32>,
    /// A sentence, where it failed for more than its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The attempt whose result this is.
    pub attempt: u32,
    /// In milliseconds since 1970, as the others.
    pub submitted: u64,
    /// When its last attempt began.
    pub started: Option<u64>,
    /// When it was over.
    pub finished: u64,
    /// What it was given.
    pub input: Content,
    /// What it made; `None`: nothing was recorded.
    pub result: Option<Content>,
    /// Its stages as the run's answer has them.
    #[serde(default)]
    pub stages: serde_json::Value,
    /// SHA-256 of its idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The job whose input this one was given again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
    /// When it goes, in milliseconds of the clock that ages run on.
    pub expires: u64,
}

/// What an idempotency key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// The job that came with it.
    pub id: String,
    /// SHA-256 of that job's input.
    pub input_sha256: String,
}

/// A record as it lies in the store.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    // Text, numbers and lists: always encodable.
    serde_json::to_vec(record).unwrap_or_default()
}

/// A record out of the store; `None` for what this version cannot read.
pub fn decode<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Option<T> {
    serde_json::from_slice(value).ok()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_record_is_small_however_much_is_in_it() {
        let open = Open {
            owner: Some(Owner {
                node: 1 << 40,
                lease: i64::MAX,
            }),
            state: OpenState::Running,
            attempt: u32::MAX,
            submitted: 1 << 45,
            input: Content {
                bytes: 10 << 30,
                sha256: "a".repeat(64),
                blob: true,
            },
            key: Some("b".repeat(64)),
            retry_of: Some("j".repeat(27)),
            definition: Some(1 << 20),
            started: Some(1 << 45),
            began: Some(1 << 45),
            spent: 1 << 40,
            losses: 3,
            mishaps: 1 << 20,
            failures: 1 << 20,
            cancel: true,
        };
        let value = encode(&open);
        assert!(value.len() < 512, "{} bytes", value.len());
        assert_eq!(decode::<Open>(&value), Some(open));
    }
}
