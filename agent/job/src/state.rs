//! What a job's record may become. Pure.
//!
//! ```text
//!            begun             after: status 0, no retries left, timeout, cancelled
//! queued ------------> running ----------------------------------------------------> done
//!   ^  ^                 |  |
//!   |  |                 |  +-- after: Pipes' own failure, or a status that is tried again --+
//!   |  +-----------------|--------------------------------------------------------------------+
//!   +--- handed over, or taken from an owner that is gone
//! ```
//!
//! Always: (1) an attempt's number is raised before it begins, so that each (job, attempt) begins at most once; (2) a job
//! fails for what it did, never for what Pipes did, but for its time and for the servers that it ended; (3) what somebody
//! cancelled is never tried again.

use std::time::Duration;

use crate::record::{Content, DoneState, Open, OpenState, Owner};

/// How long jobs are kept after their end, unless their workflow says otherwise, or where it is gone.
pub const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// Status when a job's time ran out.
pub const TIMEOUT: i32 = 124;
/// Status when Pipes itself gave a job up.
pub const LOST: i32 = 125;

/// A server that ends so soon after an attempt began may have been ended by it.
const BLAMED_WITHIN: Duration = Duration::from_secs(60);
/// What its lease may take to end after it.
const NOTICED_WITHIN: Duration = Duration::from_secs(6);
/// Servers that a job may have ended before it runs with no other job beside it.
const LOSSES_BEFORE_ALONE: u64 = 2;

/// Attempts in a row that found no room for what they write before the job fails for it: half a minute, in which others may
/// have ended.
const NO_ROOM_MAX: u64 = 8;

/// The rest after an attempt that failed for Pipes' own reasons, doubled with each in a row.
const MISHAP_REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// The rest before a job is tried again whose status was not 0, doubled with each.
const FAILURE_REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What a workflow says of its jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// It takes jobs up; else what is queued waits.
    pub is_running: bool,
    /// Which definition a job's first attempt runs; tells one from another.
    pub definition: u64,
    /// Jobs at once on one agent.
    pub at_once: usize,
    /// How often a job is tried again whose status is not 0.
    pub retries: u64,
    /// What all attempts of a job may take together.
    pub timeout: Option<Duration>,
    /// How long a job is kept after its end.
    pub keep: Duration,
    /// What attempts have to end by themselves once it was stopped.
    pub grace: Duration,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The stages ended by themselves: the status as a shell gives it.
    Exited(i32),
    /// It cannot succeed another time either: what Pipes says of it.
    Refused {
        /// The status that `pipes query` exits with.
        status: i32,
        /// A sentence.
        reason: String,
    },
    /// Pipes failed: the job is not to blame.
    Lost {
        /// A sentence, for the log.
        why: String,
        /// A server was lost while it ran a stage.
        is_server: bool,
    },
    /// There is no room for what it writes: of the job's, where it is much, or of others.
    NoRoom {
        /// A sentence.
        why: String,
    },
    /// It was ended from here before its end, so that somebody else may go on with it.
    Stopped,
}

/// How a job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// What it came to.
    pub state: DoneState,
    /// As a shell gives it.
    pub status: Option<i32>,
    /// A sentence, where the status does not say it.
    pub reason: Option<String>,
}

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It is over.
    Over(End),
    /// It is queued, and tried again after a rest.
    Again(Open, Duration),
}

impl End {
    fn failed(status: i32, reason: impl Into<String>) -> End {
        End {
            state: DoneState::Failed,
            status: Some(status),
            reason: Some(reason.into()),
        }
    }

    /// Somebody cancelled it.
    pub fn cancelled(status: Option<i32>) -> End {
        End {
            state: DoneState::Cancelled,
            status,
            reason: None,
        }
    }
}

impl Open {
    /// As it is accepted: it waits for its first attempt.
    pub fn accepted(owner: Option<Owner>, submitted: u64, input: Content) -> Open {
        Open {
            owner,
            state: OpenState::Queued,
            attempt: 0,
            submitted,
            input,
            key: None,
            retry_of: None,
            definition: None,
            started: None,
            began: None,
            spent: 0,
            losses: 0,
            mishaps: 0,
            failures: 0,
            cancel: false,
        }
    }

    /// It may have ended servers: it runs with no other job on its node.
    pub fn is_alone(&self) -> bool {
        self.losses >= LOSSES_BEFORE_ALONE
    }

    /// What is left of its time; `None`: it has no limit.
    pub fn left(&self, terms: &Terms) -> Option<Duration> {
        let spent = Duration::from_millis(self.spent);
        terms.timeout.map(|timeout| timeout.saturating_sub(spent))
    }
}

/// The record of the attempt that begins now.
pub fn begun(open: &Open, owner: Owner, definition: u64, now_ms: u64) -> Open {
    Open {
        owner: Some(owner),
        state: OpenState::Running,
        attempt: open.attempt + 1,
        definition: Some(open.definition.unwrap_or(definition)),
        started: Some(now_ms),
        ..open.clone()
    }
}

/// What comes after an attempt that took so long.
pub fn after(open: &Open, verdict: &Verdict, took: Duration, terms: &Terms) -> Next {
    let mut open = queued(open, took);
    let status = match verdict {
        Verdict::Exited(status) | Verdict::Refused { status, .. } => Some(*status),
        Verdict::Lost { .. } | Verdict::NoRoom { .. } | Verdict::Stopped => None,
    };
    if open.cancel {
        return Next::Over(End::cancelled(status));
    }
    match verdict {
        Verdict::Exited(0) => Next::Over(End {
            state: DoneState::Succeeded,
            status,
            reason: None,
        }),
        Verdict::Exited(status) if open.failures < terms.retries => {
            let rest = grown(FAILURE_REST, open.failures);
            open.failures += 1;
            open.mishaps = 0;
            again(&open, rest, terms, &format!("status {status}"))
        }
        Verdict::Exited(status) => Next::Over(End {
            state: DoneState::Failed,
            status: Some(*status),
            reason: None,
        }),
        Verdict::Refused { status, reason } => Next::Over(End::failed(*status, reason.as_str())),
        Verdict::Stopped => Next::Again(open, Duration::ZERO),
        Verdict::NoRoom { why } if open.mishaps >= NO_ROOM_MAX => Next::Over(End::failed(LOST, why.as_str())),
        Verdict::NoRoom { why } => after_mishap(open, terms, why),
        Verdict::Lost { why, is_server } => {
            if *is_server && took <= BLAMED_WITHIN {
                match blamed(&open) {
                    Ok(losses) => open.losses = losses,
                    Err(end) => return Next::Over(end),
                }
            }
            after_mishap(open, terms, why)
        }
    }
}

fn after_mishap(mut open: Open, terms: &Terms, why: &str) -> Next {
    let rest = grown(MISHAP_REST, open.mishaps);
    open.mishaps += 1;
    again(&open, rest, terms, why)
}

/// Once more after a rest, which is of the job's time; where that leaves none, it is over.
fn again(open: &Open, rest: Duration, terms: &Terms, why: &str) -> Next {
    let open = queued(open, rest);
    match open.left(terms) {
        Some(left) if left.is_zero() => {
            Next::Over(End::failed(TIMEOUT, format!("the timeout ran out; last, {why}")))
        }
        _ => Next::Again(open, rest),
    }
}

/// What becomes of a job whose owner is gone: `owner` takes it.
pub fn taken(open: &Open, owner: Owner, now_ms: u64) -> Next {
    if open.cancel && !crate::mutant!(CancelForgotten) {
        return Next::Over(End::cancelled(None));
    }
    let was_running = open.state == OpenState::Running;
    let age = open.started.map(|started| now_ms.saturating_sub(started));
    let took = age.filter(|_| was_running).unwrap_or(0);
    let mut next = Open {
        owner: Some(owner),
        ..queued(open, Duration::from_millis(took))
    };
    let is_soon = age.is_none_or(|age| u128::from(age) <= (BLAMED_WITHIN + NOTICED_WITHIN).as_millis());
    if was_running && is_soon {
        match blamed(open) {
            Ok(losses) => next.losses = losses,
            Err(end) => return Next::Over(end),
        }
    }
    Next::Again(next, Duration::ZERO)
}

/// What becomes of a job whose attempt is on record here and yet does not run: it was never begun.
pub fn resumed(open: &Open) -> Next {
    match open.cancel {
        true => Next::Over(End::cancelled(None)),
        false => Next::Again(queued(open, Duration::ZERO), Duration::ZERO),
    }
}

/// The record of a job that its agent, which stops in order, lets go: no lost attempt.
pub fn handed_over(open: &Open, took: Duration) -> Open {
    Open {
        owner: None,
        ..queued(open, took)
    }
}

/// The record of a job that another took as lost from who has it no more and yet lives: without that loss, if it counted.
pub fn absolved(ours: &Open, theirs: &Open) -> Option<Open> {
    (theirs.losses > ours.losses && theirs.attempt >= ours.attempt).then(|| Open {
        losses: theirs.losses - 1,
        ..theirs.clone()
    })
}

/// The record of a job that somebody wants cancelled while an attempt is under way.
pub fn marked(open: &Open) -> Open {
    Open {
        cancel: true,
        ..open.clone()
    }
}

fn queued(open: &Open, took: Duration) -> Open {
    let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Open {
        state: OpenState::Queued,
        spent: open.spent.saturating_add(took),
        ..open.clone()
    }
}

/// One server more; or the end of a job that ended another though it was alone there.
fn blamed(open: &Open) -> Result<u64, End> {
    if open.is_alone() {
        let times = open.losses + 1;
        return Err(End::failed(
            LOST,
            format!(
                "each of the {times} servers that ran it ended within a minute, the last with no other job on it"
            ),
        ));
    }
    Ok(open.losses + 1)
}

fn grown((first, most): (Duration, Duration), times: u64) -> Duration {
    let factor = 1_u32
        .checked_shl(u32::try_from(times).unwrap_or(u32::MAX))
        .unwrap_or(u32::MAX);
    first.saturating_mul(factor.max(1)).min(most)
}

#[cfg(test)]
mod tests;
