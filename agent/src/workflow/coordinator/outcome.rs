//! From what happened to the stages to what the run came to: its state, its exit status, its message.
//!
//! ```text
//! all exited            status of the last stage, or with pipefail of the last that failed
//! a stage cannot start  126      timeout  124      cancelled  128+n
//! a server, link or shim lost, a stage ended by Pipes  125
//! ```
//!
//! Pure.

use pipes_protocol::run::Loss;
use pipes_wamp::error::uri;

use crate::workflow::coordinator::attempt::stage::Stage;
use crate::workflow::coordinator::attempt::{Attempt, Stop};
use crate::workflow::coordinator::plan::Plan;
use crate::workflow::runs::record::LOST;

/// Status when the time given ran out.
pub const TIMEOUT: i32 = 124;
/// Status when a stage cannot be started.
const CANNOT_START: i32 = 126;

/// Who ended a run that was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Itself,
    /// Its time ran out.
    Timeout,
    /// An operator stopped it.
    Stopped,
}

/// What is said of a second time where nobody asked for one.
const NOT_AGAIN: &str = "nothing was run again";

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// succeeded, failed or cancelled.
    pub state: &'static str,
    /// What the caller exits with.
    pub exit: i32,
    /// A sentence for people, where Pipes has something to say.
    pub message: Option<String>,
    /// The caller broke the protocol: its answer is that error.
    pub is_misuse: bool,
}

impl Outcome {
    /// Somebody ended it.
    pub fn cancelled(exit: i32) -> Outcome {
        Outcome {
            state: "cancelled",
            exit,
            message: None,
            is_misuse: false,
        }
    }

    /// Part of stdin cannot be had again.
    pub fn incomplete() -> Outcome {
        Outcome::failed(
            LOST,
            "a server was lost, and stdin that was on its way to it with it".into(),
        )
    }

    /// The caller said what it may not.
    pub fn misuse(why: String) -> Outcome {
        Outcome {
            is_misuse: true,
            ..Outcome::failed(LOST, why)
        }
    }

    /// Pipes itself has something to say of it.
    pub fn failed(exit: i32, message: String) -> Outcome {
        Outcome {
            state: "failed",
            exit,
            message: Some(message),
            is_misuse: false,
        }
    }
}

/// What Pipes failed in an attempt that is over, if it is that which ended it.
pub fn loss(attempt: &Attempt<'_>, ended: Ended) -> Option<Loss> {
    match (ended, attempt.stop.as_ref()?) {
        (Ended::Timeout, _) => None,
        (_, Stop::Unavailable { .. } | Stop::Full | Stop::Incomplete) => Some(Loss::BeforeStart),
        (_, Stop::Lost) => {
            let is_of_server = |stage: &Stage| stage.ended.is_none() && stage.call != 0 && is_server(stage);
            match attempt.has_started && attempt.stages.iter().any(is_of_server) {
                true => Some(Loss::Server),
                false => Some(Loss::Other),
            }
        }
        _ => None,
    }
}

fn is_server(stage: &Stage) -> bool {
    let error = stage.error.as_ref().map(|(error, _)| error.as_str());
    matches!(error, None | Some(uri::NETWORK_FAILURE | uri::NO_SUCH_PROCEDURE))
}

/// Judges an attempt that is over; `was_repeated`: it was the second after a start.
pub fn judge(plan: &Plan, attempt: &Attempt<'_>, ended: Ended, was_repeated: bool) -> Outcome {
    match (ended, &attempt.stop) {
        (Ended::Timeout, _) => Outcome::failed(TIMEOUT, "the timeout ran out".into()),
        (_, Some(stop)) => {
            let again = match plan.options.retry {
                true if was_repeated => "--retry ran it once more already",
                true => why_not_again(attempt.output.received, attempt.stdin.sent),
                false => NOT_AGAIN,
            };
            stopped(plan, &attempt.stages, stop, again)
        }
        (Ended::Stopped, None) => Outcome::cancelled(exit(plan, &attempt.stages)),
        (Ended::Itself, None) => {
            let exit = exit(plan, &attempt.stages);
            let state = if exit == 0 { "succeeded" } else { "failed" };
            Outcome {
                state,
                exit,
                message: None,
                is_misuse: false,
            }
        }
    }
}

fn stopped(plan: &Plan, stages: &[Stage], stop: &Stop, again: &str) -> Outcome {
    let lost = |why: String| Outcome::failed(LOST, why);
    match stop {
        Stop::CannotStart { stage, why } => {
            let (name, node) = (plan.name(*stage), &stages[*stage].node_name);
            let message = format!("{name} cannot be started on {node}: {why}");
            Outcome::failed(CANNOT_START, message)
        }
        Stop::OverLimit { stage, why } => {
            let (name, node) = (plan.name(*stage), &stages[*stage].node_name);
            lost(format!("{name} was ended on {node}: {why}"))
        }
        Stop::Gone => Outcome::cancelled(LOST),
        Stop::Signalled(number) => Outcome::cancelled(128 + number),
        Stop::Usage(why) => Outcome::misuse(why.clone()),
        Stop::Unavailable { node, why } => lost(unavailable(stages, *node, why)),
        Stop::Full => lost("busy: no node has a free slot".into()),
        Stop::Incomplete => Outcome::incomplete(),
        Stop::Lost => lost(what_was_lost(plan, stages, again)),
    }
}

/// Why a node took no stage: by its own sentence, or by what stands for one that gave none.
fn unavailable(stages: &[Stage], node: Option<u64>, why: &str) -> String {
    let said = pipes_wamp::error::to_people(why);
    let stage = stages.iter().find(|stage| Some(stage.node) == node);
    match stage.filter(|_| said != why) {
        Some(stage) => format!("server {} takes no stage: {said}", stage.node_name),
        None => said.to_owned(),
    }
}

/// The status a shell would give.
fn exit(plan: &Plan, stages: &[Stage]) -> i32 {
    let statuses = stages
        .iter()
        .map(|stage| stage.exit.map_or(LOST, |exit| exit.status));
    let last = statuses.clone().next_back().unwrap_or(0);
    if plan.options.pipefail {
        statuses.rev().find(|status| *status != 0).unwrap_or(0)
    } else {
        last
    }
}

/// What to say of a second time: whoever gave `--retry` expects one, and it is right only while nothing of the first was
/// seen or used up.
fn why_not_again(delivered: u64, read: u64) -> &'static str {
    match (delivered, read) {
        (1.., _) => "--retry did not run it again, since output was delivered already",
        (0, 1..) => "--retry did not run it again, since stdin was read already",
        (0, 0) => NOT_AGAIN,
    }
}

/// The stage that was lost first, by what its call's error says: a lost server explains a lost shim, and either
/// explains the neighbours' broken pipes.
fn what_was_lost(plan: &Plan, stages: &[Stage], again: &str) -> String {
    let rank = |stage: &Stage| match stage.error.as_ref().map(|(error, _)| error.as_str()) {
        // No answer at all within the time: as good as gone.
        None if stage.ended.is_none() && stage.call != 0 => 1,
        Some(uri::NETWORK_FAILURE | uri::NO_SUCH_PROCEDURE) => 0,
        Some(uri::CANCELED) => 2,
        Some(_) => 3,
        None => 4,
    };
    let Some((index, stage)) = stages.iter().enumerate().min_by_key(|(_, stage)| rank(stage)) else {
        return "the run was lost".into();
    };
    let name = plan.name(index);
    let node = &stage.node_name;
    match rank(stage) {
        0 | 1 => format!("server {node} was lost while it ran {name}; {again}"),
        2 => format!("the shim of {name} on {node} was lost; {again}"),
        _ => match &stage.error {
            Some((_, why)) if !why.is_empty() => {
                format!("{name} on {node} broke: {why}; {again}")
            }
            _ => format!("a pipe of {name} on {node} broke; {again}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_gave_no_sentence_is_named_with_one() {
        let stage = Stage {
            node: 2,
            node_name: "n2".into(),
            ..Stage::default()
        };
        let said = |why| unavailable(std::slice::from_ref(&stage), Some(2), why);
        assert_eq!(
            said(uri::NO_SUCH_PROCEDURE),
            "server n2 takes no stage: it is starting or stopping"
        );
        assert_eq!(said("its disk is full"), "its disk is full");
    }

    #[test]
    fn who_asked_for_a_retry_is_told_why_there_was_none() {
        let delivered = "--retry did not run it again, since output was delivered already";
        assert_eq!(why_not_again(1, 1), delivered);
        let read = "--retry did not run it again, since stdin was read already";
        assert_eq!(why_not_again(0, 1), read);
        assert_eq!(why_not_again(0, 0), NOT_AGAIN);
    }
}
