//! What to do after an attempt ended. Pure.
//!
//! | it stopped, because | then | how often |
//! |---|---|---|
//! | a node was full | wait for a free slot and ask again | without limit; after 5 refusals the nodes in turn |
//! | a node or replica failed before the start | place it anew, without that node | 8 times |
//! | a server was lost after the start | begin again, if `--retry` asked for it and nothing was read or written | once |
//! | any of these, and bytes of stdin came that it could not take any more | it is over: no other one has them all | |
//! | of anything else, or all stages ended | it is over | |

use std::collections::BTreeSet;
use std::time::Duration;

use crate::workflow::coordinator::attempt::Stop;
use crate::workflow::supply::OVERTAKEN_MAX;

/// Attempts that may fail before their start for other reasons than want of slots.
const MISHAPS_MAX: u32 = 8;
/// A run that found no slot asks again after this, should nobody tell it sooner.
pub const FREED_MAX: Duration = Duration::from_secs(1);
/// When only nodes are left that failed a moment ago, they are asked again after this: a replica that died is missed by
/// then.
pub const MISHAP_PAUSE: Duration = Duration::from_millis(100);
/// Refusals after which a run asks its nodes in turn, by id, and keeps what it has: two runs that ask in one order cannot
/// wait for each other.
const REFUSALS_BEFORE_TURNS: u32 = OVERTAKEN_MAX;

/// What comes after an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Another, where a slot is free.
    WhenFreed,
    /// Another at once, on other nodes.
    Elsewhere,
    /// Another at once, from the beginning.
    Again,
    /// None: another would miss a part of stdin.
    Incomplete,
    /// None: the run is over.
    Over,
}

/// What a run's attempts came to so far.
#[derive(Debug, Default)]
pub struct Retries {
    refusals: u32,
    mishaps: u32,
    avoided: BTreeSet<u64>,
    was_repeated: bool,
}

impl Retries {
    /// Decides after an attempt; `may_repeat`: whether one that was lost after its start may be repeated; `has_all_stdin`:
    /// whether another would have all that the caller has sent.
    pub fn after(&mut self, stop: Option<&Stop>, may_repeat: bool, has_all_stdin: bool) -> Next {
        match self.regardless_of_stdin(stop, may_repeat) {
            Next::Over => Next::Over,
            _ if !has_all_stdin => Next::Incomplete,
            next => next,
        }
    }

    fn regardless_of_stdin(&mut self, stop: Option<&Stop>, may_repeat: bool) -> Next {
        match stop {
            Some(Stop::Full) => {
                self.refusals += 1;
                Next::WhenFreed
            }
            Some(Stop::Unavailable { node, .. }) if self.mishaps < MISHAPS_MAX => {
                self.mishaps += 1;
                self.avoided.extend(node);
                Next::Elsewhere
            }
            Some(Stop::Lost) if may_repeat && !self.was_repeated => {
                self.was_repeated = true;
                Next::Again
            }
            _ => Next::Over,
        }
    }

    /// Nodes that failed this run before its start.
    pub fn avoided(&self) -> &BTreeSet<u64> {
        &self.avoided
    }

    /// Too few nodes are left without those that failed: they may do by now.
    pub fn forgive(&mut self) {
        self.avoided.clear();
    }

    /// Whether nodes are to be asked one after another.
    pub fn asks_in_turn(&self) -> bool {
        self.refusals >= REFUSALS_BEFORE_TURNS
    }

    /// Which start of the stages comes next, from 1: what failed before its start does not count.
    pub fn start_number(&self) -> u64 {
        1 + u64::from(self.was_repeated)
    }

    /// Whether a lost run was begun once more.
    pub fn was_repeated(&self) -> bool {
        self.was_repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(node: Option<u64>) -> Stop {
        let why = "it did not answer".into();
        Stop::Unavailable { node, why }
    }

    #[test]
    fn a_full_cluster_is_asked_without_limit_and_in_turn_after_five_refusals() {
        let mut retries = Retries::default();
        for refusal in 1..100 {
            assert_eq!(retries.after(Some(&Stop::Full), false, true), Next::WhenFreed);
            assert_eq!(retries.asks_in_turn(), refusal >= 5, "after {refusal} refusals");
        }
        assert!(retries.avoided().is_empty());
    }

    #[test]
    fn a_node_that_failed_before_the_start_is_avoided_eight_times_at_most() {
        let mut retries = Retries::default();
        for node in 1..=8 {
            let next = retries.after(Some(&unavailable(Some(node))), false, true);
            assert_eq!(next, Next::Elsewhere);
            assert!(retries.avoided().contains(&node));
        }
        assert_eq!(
            retries.after(Some(&unavailable(Some(9))), false, true),
            Next::Over
        );
    }

    #[test]
    fn refusals_do_not_count_as_mishaps() {
        let mut retries = Retries::default();
        for _ in 0..20 {
            retries.after(Some(&Stop::Full), false, true);
        }
        assert_eq!(
            retries.after(Some(&unavailable(None)), false, true),
            Next::Elsewhere
        );
        assert!(retries.avoided().is_empty(), "nobody knows which node it was");
    }

    #[test]
    fn nodes_that_failed_are_forgiven_and_their_mishaps_counted_all_the_same() {
        let mut retries = Retries::default();
        for _ in 0..8 {
            retries.after(Some(&unavailable(Some(1))), false, true);
            retries.forgive();
            assert!(retries.avoided().is_empty());
        }
        assert_eq!(
            retries.after(Some(&unavailable(Some(1))), false, true),
            Next::Over
        );
    }

    #[test]
    fn a_lost_run_is_repeated_once_and_only_where_it_may_be() {
        let mut retries = Retries::default();
        assert_eq!(retries.after(Some(&Stop::Lost), false, true), Next::Over);
        assert_eq!((retries.was_repeated(), retries.start_number()), (false, 1));
        assert_eq!(retries.after(Some(&Stop::Lost), true, true), Next::Again);
        retries.after(Some(&Stop::Full), true, true);
        assert_eq!(retries.start_number(), 2, "its stages start for the second time");
        assert!(retries.was_repeated());
        assert_eq!(retries.after(Some(&Stop::Lost), true, true), Next::Over);
    }

    #[test]
    fn no_attempt_follows_that_would_miss_bytes_of_stdin() {
        let mut retries = Retries::default();
        for stop in [Stop::Full, unavailable(Some(1)), Stop::Lost] {
            assert_eq!(
                retries.after(Some(&stop), true, false),
                Next::Incomplete,
                "{stop:?}"
            );
        }
        assert_eq!(retries.after(None, true, false), Next::Over, "all stages ended");
    }

    #[test]
    fn anything_else_is_the_end() {
        let ends = [
            None,
            Some(Stop::Gone),
            Some(Stop::Signalled(2)),
            Some(Stop::Usage("a chunk after the end".into())),
            Some(Stop::CannotStart {
                stage: 0,
                why: "no such file".into(),
            }),
            Some(Stop::OverLimit {
                stage: 0,
                why: "too large".into(),
            }),
        ];
        for stop in ends {
            assert_eq!(
                Retries::default().after(stop.as_ref(), true, true),
                Next::Over,
                "{stop:?}"
            );
        }
    }
}
