//! What has an end by the clock: each phase of an attempt, the run itself, the time between SIGTERM and SIGKILL. Pure.
//!
//! ```text
//! reserving   500 ms  until every node asked has said a word      then  another attempt, without that node; there twice as long
//! reserving      -    from then on each node answers in its own limits
//! connecting   10 s   until every hop is proved, or files came further          the same
//! ending       10 s   until every shim has cleared what was left                it is over
//! failing       4 s   until every stage is killed                               it is over
//! freeing     500 ms  until every node has its slots back                       it is over
//! the run      --timeout, once                                                  SIGTERM, SIGKILL after 5 s
//! ```
//!
//! A node that says nothing for 500 ms is slow rather than dead: a dead one is told by its link. So it is passed over while
//! there are others, and each time the run has to be placed anew it waits longer: else a cluster that is short of
//! processors would spend them on attempts that are given up.
//!
//! Always: every phase has an end by the clock, but running, and waiting for nodes that said that they see to it.

use std::time::Duration;

use tokio::time::Instant;

use crate::workflow::coordinator::attempt::{Attempt, Phase};
use crate::workflow::coordinator::outcome::Ended;

/// How long nodes may take to say that they reserved or are full, in a run's first attempt.
const RESERVE_FIRST: Duration = Duration::from_millis(500);
/// How long in the last ones: by then the link of a dead one is lost.
const RESERVE_MAX: Duration = Duration::from_secs(10);
/// How long hops may take to be proved.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long shims may take to clear what is left after the end.
const END_MAX: Duration = Duration::from_secs(10);
/// How long stages may take to say that they are killed, once something was lost: a lost link tells in 3 s.
const KILL_MAX: Duration = Duration::from_secs(4);
/// How long nodes may take to say that they have their slots back. One that is late has them when the session ends.
const FREE_MAX: Duration = Duration::from_millis(500);
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
    /// How often the attempt has asked a node, or files came further.
    steps: usize,
    /// When the attempt came to this phase, or took the last of them.
    since: Instant,
    /// How long nodes may say nothing in this attempt.
    reserve: Duration,
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
            steps: 0,
            since: begun,
            reserve: RESERVE_FIRST,
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

    /// Notes the phase that an attempt is in, and how many steps it took: a node that is asked in turn has its whole
    /// time, whatever the one before it took, and so have files that come at all.
    pub fn enter(&mut self, phase: Phase, steps: usize, now: Instant) {
        if (self.phase, self.steps) != (phase, steps) {
            (self.phase, self.steps, self.since) = (phase, steps, now);
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
        if now < self.since + limit {
            return None;
        }
        if self.awaits_a_word(attempt) {
            self.reserve = (self.reserve * 2).min(RESERVE_MAX);
        }
        Some(due)
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

    /// Whether a node that was asked has not said anything yet.
    fn awaits_a_word(&self, attempt: &Attempt<'_>) -> bool {
        self.phase == Phase::Reserving && !attempt.silent.is_empty()
    }

    /// How long the attempt may be in its phase, and what comes after.
    fn of_phase(&self, attempt: &Attempt<'_>) -> Option<(Duration, Due)> {
        let unavailable = |node, why| Due::Unavailable { node, why };
        Some(match self.phase {
            Phase::Reserving if self.awaits_a_word(attempt) => {
                let why = "a node did not answer in time";
                (self.reserve, unavailable(attempt.silent.first().copied(), why))
            }
            // How long a replica may take is known where it is started; a node that is gone loses its link.
            Phase::Reserving => return None,
            Phase::Connecting => {
                let why = "a replica was not ready in 10 s";
                (CONNECT_MAX, unavailable(attempt.unready_node(), why))
            }
            Phase::Ending => (END_MAX, Due::Over),
            Phase::Failing => (KILL_MAX, Due::Over),
            Phase::Freeing => (FREE_MAX, Due::Over),
            Phase::Running | Phase::Over => return None,
        })
    }
}

#[cfg(test)]
mod tests;
