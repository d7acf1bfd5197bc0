//! What the other nodes know of this one's registrations, and which still wait for them to know.
//!
//! ```text
//! REGISTER com.sum -> Add 7 over links 1, 2; waits {1: 7, 2: 7} -> Confirm 7 from 1 -> Confirm 8 from 2 -> REGISTERED
//! ```
//!
//! Changes are numbered, once for all links; a new link begins with all registrations, then gets the changes in order. A
//! node confirms numbers, each with those before it. A link that is lost stops counting at once, a silent one after 3 s.
//! What others registered lies in the dealer's realms; so a call needs one look-up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pipes_wamp::router::LinkKey;

/// How long a registration waits for a node that does not confirm. It is lost or stuck then.
const CONFIRM_WITHIN: Duration = Duration::from_secs(3);

struct Pending {
    waits: HashMap<LinkKey, u64>,
    until: Instant,
}

/// The waiting registrations.
#[derive(Default)]
pub(crate) struct Registrations {
    number: u64,
    pending: HashMap<u64, Pending>,
}

impl Registrations {
    /// Numbers the next change.
    pub fn next_change(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// A registration was told to `links` as change `number`. False: nobody is to be waited for.
    pub fn announced(&mut self, registration: u64, number: u64, links: Vec<LinkKey>, now: Instant) -> bool {
        let waits: HashMap<_, _> = links.into_iter().map(|link| (link, number)).collect();
        let is_waiting = !waits.is_empty();
        if is_waiting {
            self.pending.insert(
                registration,
                Pending {
                    waits,
                    until: now + CONFIRM_WITHIN,
                },
            );
        }
        is_waiting
    }

    /// A new link was told everything as change `number`: what still waits, waits for it too.
    pub fn joined(&mut self, link: LinkKey, number: u64) {
        for pending in self.pending.values_mut() {
            pending.waits.insert(link, number);
        }
    }

    /// A registration was taken back.
    pub fn withdrawn(&mut self, registration: u64) {
        self.pending.remove(&registration);
    }

    /// A link's node knows the changes up to `number`: gives the registrations that wait no more.
    pub fn confirmed(&mut self, link: LinkKey, number: u64) -> Vec<u64> {
        self.confirm_where(|waits| {
            if waits.get(&link).is_some_and(|waited| *waited <= number) {
                waits.remove(&link);
            }
        })
    }

    /// A link is lost: gives the registrations that wait no more.
    pub fn lost(&mut self, link: LinkKey) -> Vec<u64> {
        self.confirm_where(|waits| {
            waits.remove(&link);
        })
    }

    /// Gives the registrations that have waited long enough.
    pub fn overdue(&mut self, now: Instant) -> Vec<u64> {
        let mut done: Vec<_> = self
            .pending
            .extract_if(|_, pending| pending.until <= now)
            .map(|(registration, _)| registration)
            .collect();
        done.sort_unstable();
        done
    }

    /// When `overdue` has something to give.
    pub fn next_overdue(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.until).min()
    }

    fn confirm_where(&mut self, mut change: impl FnMut(&mut HashMap<LinkKey, u64>)) -> Vec<u64> {
        let confirmed = self.pending.extract_if(|_, pending| {
            change(&mut pending.waits);
            pending.waits.is_empty()
        });
        let mut done: Vec<_> = confirmed.map(|(registration, _)| registration).collect();
        done.sort_unstable();
        done
    }
}
