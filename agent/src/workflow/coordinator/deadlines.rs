//! What has an end by the clock: each phase of an attempt, the run itself, the time between SIGTERM and SIGKILL. Pure.
//!
//! ```text
//! reserving   500 ms  until every node asked has said a word      then  another attempt, without that node
//! reserving    10 s   until all are reserved; asked in turn: no limit          the same
//! connecting   10 s   until every replica is ready                              the same
//! ending       10 s   until every shim has cleared what was left                it is over
//! failing       4 s   until every stage is killed                               it is over
//! the run      --timeout, once                                                  SIGTERM, SIGKILL after 5 s
//! ```
//!
//! Always: every phase has an end by the clock, but running, and waiting in turn for slots.

use std::time::Duration;

use tokio::time::Instant;

use crate::workflow::coordinator::attempt::{Attempt, Phase};
use crate::workflow::coordinator::outcome::Ended;

/// How long nodes may take to say that they reserved or are full.
const RESERVE_MAX: Duration = Duration::from_millis(500);
/// How long replicas may take to start, and hops to be proved.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long shims may take to clear what is left after the end.
const END_MAX: Duration = Duration::from_secs(10);
/// How long stages may take to say that they are killed, once something was lost: a lost link tells in 3 s.
const KILL_MAX: Duration = Duration::from_secs(4);
/// Between SIGTERM and SIGKILL when the time ran out.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);
/// A day: stands for no limit.
const NEVER: Duration = Duration::from_secs(86_400);

/// The deadlines of a run.
#[derive(Debug)]
pub struct Deadlines {
    /// When `--timeout` runs out.
    timeout: Option<Instant>,
    /// When SIGKILL follows SIGTERM.
    kill_at: Option<Instant>,
    /// Who ended the run.
    ended: Ended,
    phase: Phase,
    /// Nodes that the attempt has asked.
    asked: usize,
    /// When the attempt came to this phase, or asked the last of them.
    since: Instant,
}

/// What a deadline that has passed asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// SIGTERM to all stages: the run's time ran out.
    Terminate,
    /// SIGKILL to all stages.
    Kill,
    /// Another attempt.
    Unavailable {
        /// The node to avoid.
        node: Option<u64>,
        /// What it did not do.
        why: &'static str,
    },
    /// What has not been answered is waited for no longer.
    Over,
}

impl Deadlines {
    /// Of a run that was called at `begun`; a timeout beyond what the clock can count is none.
    pub fn new(begun: Instant, timeout: Option<Duration>) -> Deadlines {
        Deadlines {
            timeout: timeout.and_then(|timeout| begun.checked_add(timeout)),
            kill_at: None,
            ended: Ended::Itself,
            phase: Phase::Reserving,
            asked: 0,
            since: begun,
        }
    }

    /// Who ended the run.
    pub fn ended(&self) -> Ended {
        self.ended
    }

    /// Another attempt begins: its phases have their whole time, whatever the last one's was.
    pub fn begin(&mut self, now: Instant) {
        (self.phase, self.since) = (Phase::Reserving, now);
    }

    /// Notes the phase that an attempt is in, and how many nodes it has asked: one that is asked in turn has its whole
    /// time, whatever the one before it took.
    pub fn enter(&mut self, phase: Phase, asked: usize, now: Instant) {
        if (self.phase, self.asked) != (phase, asked) {
            (self.phase, self.asked, self.since) = (phase, asked, now);
        }
    }

    /// SIGTERM is sent: SIGKILL follows after the grace.
    pub fn terminate(&mut self, by: Ended, now: Instant, grace: Duration) {
        if self.ended == Ended::Itself {
            self.ended = by;
        }
        self.kill_at = now.checked_add(grace);
    }

    /// When the next of them passes.
    pub fn next(&self, attempt: &Attempt<'_>) -> Instant {
        let of_phase = self.of_phase(attempt).map_or(NEVER, |(limit, _)| limit);
        let others = [self.pending_timeout(), self.kill_at].into_iter().flatten();
        others.fold(self.since + of_phase, Instant::min)
    }

    /// What the one that has passed asks for, if one has.
    pub fn due(&mut self, attempt: &Attempt<'_>, now: Instant) -> Option<Due> {
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            return Some(Due::Kill);
        }
        if self.pending_timeout().is_some_and(|at| at <= now) {
            self.terminate(Ended::Timeout, now, TIMEOUT_GRACE);
            return Some(Due::Terminate);
        }
        let (limit, due) = self.of_phase(attempt)?;
        (now >= self.since + limit).then_some(due)
    }

    /// When to ask anew, or when the time runs out before that; of a run that waits between two attempts.
    pub fn while_waiting(&self, again: Instant) -> Instant {
        self.timeout.map_or(again, |timeout| timeout.min(again))
    }

    /// Whether the run's time has run out.
    pub fn is_timed_out(&self, now: Instant) -> bool {
        self.timeout.is_some_and(|timeout| timeout <= now)
    }

    fn pending_timeout(&self) -> Option<Instant> {
        self.timeout.filter(|_| self.ended == Ended::Itself)
    }

    /// How long the attempt may be in its phase, and what comes after.
    fn of_phase(&self, attempt: &Attempt<'_>) -> Option<(Duration, Due)> {
        let unavailable = |node, why| Due::Unavailable { node, why };
        Some(match self.phase {
            Phase::Reserving if !attempt.silent.is_empty() => {
                let why = "a node did not answer in 500 ms";
                (RESERVE_MAX, unavailable(attempt.silent.first().copied(), why))
            }
            Phase::Reserving if attempt.in_turn => return None,
            Phase::Reserving | Phase::Connecting => {
                let why = "a replica was not ready in 10 s";
                (CONNECT_MAX, unavailable(attempt.unready_node(), why))
            }
            Phase::Ending => (END_MAX, Due::Over),
            Phase::Failing => (KILL_MAX, Due::Over),
            Phase::Running | Phase::Over => return None,
        })
    }
}

#[cfg(test)]
mod tests;
