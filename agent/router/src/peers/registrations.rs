//! What the other nodes are told of this one's registrations, and which of those wait to be known.
//!
//! ```text
//! changes   3 + com.sum    5 + com.max    8 - com.min (told as 2)    9 + com.avg
//! link 1    told up to 9, knows up to 8                       com.avg waits for it
//! link 2    told up to 0: it is new, and begins at the front  com.avg waits for it too
//! ```
//!
//! Changes are numbered. Each link is told them in their order and at its own pace, in batches, and the far node confirms
//! a batch by the number of its last change. So a new link is like one that is far behind. What is withdrawn leaves the
//! changes; that it did is told to those alone who were told of it.
//!
//! A registration waits until every link's node knows it. A link that is lost stops counting at once, a silent one after
//! 3 s. What others registered lies in the dealer's realms; so a call needs one look-up.
//!
//! Always: (1) a change costs the same, however many registrations there are or wait; (2) no more is kept than what is
//! registered and what some link's node still has to forget.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use pipes_wamp::router::LinkKey;

use crate::peers::frame::{self, Change};

/// How long a registration waits for a node that does not confirm. It is lost or stuck then.
const CONFIRM_WITHIN: Duration = Duration::from_secs(3);

/// Octets of a batch: some hundreds of changes, a fraction of a millisecond of the far node's turn.
const BATCH: usize = 32 << 10;

/// A change, as it is told.
struct Logged {
    realm: Arc<str>,
    procedure: Arc<str>,
    what: What,
    /// Who does not confirm it until then is waited for no longer.
    until: Instant,
}

/// What has become of a procedure.
#[derive(Clone, Copy)]
enum What {
    /// It has this registration.
    Registered(u64),
    /// It has none any more; its registration was told as this change.
    Withdrawn(u64),
}

/// A link that is told.
struct Follower {
    link: LinkKey,
    /// The last change it was told.
    told: u64,
    /// The last change its node knows.
    knows: u64,
}

impl Follower {
    /// Whether its node still has to forget what was told as `told_as` and withdrawn as `number`.
    fn has_to_forget(&self, told_as: u64, number: u64) -> bool {
        (told_as..number).contains(&self.told)
    }
}

/// This node's registrations, as others are told of them.
#[derive(Default)]
pub(crate) struct Registrations {
    /// The last change's number.
    number: u64,
    changes: BTreeMap<u64, Logged>,
    /// Those of them that are withdrawals.
    withdrawals: BTreeSet<u64>,
    /// As which change each registration is told.
    numbers: HashMap<u64, u64>,
    /// Up to this change nothing waits to be known.
    settled: u64,
    followers: Vec<Follower>,
}

impl Registrations {
    /// There is a registration to be told. False: to nobody, and it is known.
    pub fn announce(
        &mut self,
        registration: u64,
        realm: &Arc<str>,
        procedure: &Arc<str>,
        now: Instant,
    ) -> bool {
        // Where others wait still, this one is confirmed behind them.
        let is_waiting = !self.followers.is_empty() || self.first_unsettled().is_some();
        let number = self.log(Logged {
            realm: realm.clone(),
            procedure: procedure.clone(),
            what: What::Registered(registration),
            until: now + CONFIRM_WITHIN,
        });
        self.numbers.insert(registration, number);
        if !is_waiting {
            self.settled = number;
        }
        is_waiting
    }

    /// A registration was taken back.
    pub fn withdraw(&mut self, registration: u64) {
        let number = self.numbers.remove(&registration);
        let Some((number, change)) = number.and_then(|number| self.changes.remove_entry(&number)) else {
            return;
        };
        if self.followers.iter().any(|follower| follower.told >= number) {
            let withdrawal = self.log(Logged {
                what: What::Withdrawn(number),
                ..change
            });
            self.withdrawals.insert(withdrawal);
        }
    }

    fn log(&mut self, change: Logged) -> u64 {
        self.number += 1;
        self.changes.insert(self.number, change);
        self.number
    }

    /// There is a new link.
    pub fn joined(&mut self, link: LinkKey) {
        let (told, knows) = (0, 0);
        self.followers.push(Follower { link, told, knows });
    }

    /// A link is lost.
    pub fn lost(&mut self, link: LinkKey) {
        self.followers.retain(|follower| follower.link != link);
        // What it alone had to forget: few, or it was behind.
        let withdrawals = self.withdrawals.iter().copied().collect();
        self.drop_forgotten(withdrawals);
    }

    /// A link's node knows the changes up to `number`.
    pub fn confirmed(&mut self, link: LinkKey, number: u64) {
        if let Some(follower) = self.followers.iter_mut().find(|follower| follower.link == link) {
            // What it was not told it cannot know.
            follower.knows = follower.knows.max(number.min(follower.told));
        }
    }

    /// Gives the next registration that waits no more.
    pub fn next_known(&mut self, now: Instant) -> Option<u64> {
        let known = self.known();
        for (number, change) in self.changes.range(self.settled + 1..) {
            if *number > known && change.until > now {
                break;
            }
            self.settled = *number;
            if let What::Registered(registration) = change.what {
                return Some(registration);
            }
        }
        None
    }

    /// Whether `next_known` has something to give.
    pub fn has_known(&self) -> bool {
        self.first_unsettled()
            .is_some_and(|(number, _)| number <= self.known())
    }

    /// When `next_known` has something to give because somebody is silent.
    pub fn next_overdue(&self) -> Option<Instant> {
        self.first_unsettled().map(|(_, change)| change.until)
    }

    fn first_unsettled(&self) -> Option<(u64, &Logged)> {
        let mut unsettled = self.changes.range(self.settled + 1..);
        unsettled.next().map(|(number, change)| (*number, change))
    }

    /// The last change that all know.
    fn known(&self) -> u64 {
        let knows = self.followers.iter().map(|follower| follower.knows);
        knows.min().unwrap_or(u64::MAX)
    }

    /// Whether there is something to tell a link.
    pub fn has_news(&self, link: LinkKey) -> bool {
        let last = self.changes.last_key_value().map_or(0, |(number, _)| *number);
        let mut followers = self.followers.iter();
        followers.any(|follower| follower.link == link && follower.told < last)
    }

    /// Appends the next batch for a link to `out`.
    pub fn tell(&mut self, link: LinkKey, out: &mut Vec<u8>) {
        let Some(follower) = self.followers.iter_mut().find(|follower| follower.link == link) else {
            return;
        };
        let mut withdrawals = Vec::new();
        let begin = out.len();
        let untold = self.changes.range(follower.told + 1..);
        frame::write_changes(out, |out| {
            for (number, change) in untold {
                let told = Change {
                    realm: &change.realm,
                    procedure: &change.procedure,
                    is_withdrawn: matches!(change.what, What::Withdrawn(_)),
                };
                frame::write_change(&told, out);
                if told.is_withdrawn {
                    withdrawals.push(*number);
                }
                follower.told = *number;
                if out.len() - begin >= BATCH {
                    break;
                }
            }
            follower.told
        });
        self.drop_forgotten(withdrawals);
    }

    /// Drops those withdrawals that nobody is to be told any more.
    fn drop_forgotten(&mut self, withdrawals: Vec<u64>) {
        for number in withdrawals {
            let Some(What::Withdrawn(told_as)) = self.changes.get(&number).map(|change| change.what) else {
                continue;
            };
            let mut followers = self.followers.iter();
            let is_needed = followers.any(|follower| follower.has_to_forget(told_as, number));
            if !is_needed {
                self.changes.remove(&number);
                self.withdrawals.remove(&number);
            }
        }
    }
}

#[cfg(test)]
mod tests;
