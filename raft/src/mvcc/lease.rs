//! Leases: presence that ends by itself.
//!
//! A lease has an id, a time to live and the keys attached to it. Only the leader decides that one has expired, and
//! says so through the log: every member deletes the same keys at the same revision.
//!
//! ```text
//! revision 7  put /pipes/presence/2 (lease 3, 3 s)     8  put /pipes/jobs/a     9  expire lease 3: deletes /pipes/presence/2
//! ```
//!
//! [`Leases`] is what all members hold alike; [`Clock`] is the leader's own and nothing of it is ever written.
//!
//! Always: (1) a key hangs on at most one lease; (2) none expires early by the leader's clock; (3) a new leader
//! extends every lease by its full term before it may expire one; (4) a tick that comes late extends every lease by
//! its lateness, since then it is the leader that slept.

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;

/// The leases that exist, the same on every member.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    leases: BTreeMap<i64, Lease>,
    /// The lease of each key that has one.
    attached: BTreeMap<Vec<u8>, i64>,
}

#[derive(Debug)]
struct Lease {
    ttl_ms: u64,
    keys: BTreeSet<Vec<u8>>,
}

impl Leases {
    /// Makes a lease; `id` 0 takes the first free one from `proposed` on.
    pub(super) fn grant(&mut self, id: i64, ttl_ms: u64, proposed: i64) -> Result<i64, Error> {
        let id = match id {
            0 => (proposed.max(1)..)
                .find(|id| !self.leases.contains_key(id))
                .ok_or(Error::LeaseExists)?,
            id if self.leases.contains_key(&id) => return Err(Error::LeaseExists),
            id => id,
        };
        self.restore(id, ttl_ms);
        Ok(id)
    }

    /// Puts a lease back as it was stored, without keys.
    pub(crate) fn restore(&mut self, id: i64, ttl_ms: u64) {
        self.leases.insert(
            id,
            Lease {
                ttl_ms,
                keys: BTreeSet::new(),
            },
        );
    }

    /// Ends a lease; gives the keys that hung on it, in order.
    pub(super) fn remove(&mut self, id: i64) -> Option<BTreeSet<Vec<u8>>> {
        let lease = self.leases.remove(&id)?;
        for key in &lease.keys {
            self.attached.remove(key);
        }
        Some(lease.keys)
    }

    /// Hangs `key` on lease `id`, 0 being none, and nowhere else.
    pub(crate) fn attach(&mut self, key: &[u8], id: i64) {
        if let Some(before) = self.attached.remove(key)
            && let Some(lease) = self.leases.get_mut(&before)
        {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.to_vec());
            self.attached.insert(key.to_vec(), id);
        }
    }

    /// Whether the lease exists.
    pub(super) fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// Every lease with its time to live in milliseconds.
    pub(crate) fn terms(&self) -> impl Iterator<Item = (i64, u64)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.ttl_ms))
    }

    /// The time to live of a lease, in milliseconds.
    pub(crate) fn term(&self, id: i64) -> Option<u64> {
        Some(self.leases.get(&id)?.ttl_ms)
    }
}

/// When each lease ends, by the leader's clock; `now` is in milliseconds from any beginning.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    deadlines: BTreeMap<i64, u64>,
    last_tick: Option<u64>,
}

/// The interval at which ticks are due.
pub(crate) const TICK_MS: u64 = 100;
/// A tick that comes this long after the one before is late: the leader slept, and clients may not be blamed for it.
const TICK_LATE_MS: u64 = 4 * TICK_MS;

impl Clock {
    /// Gives the lease a full term from now; says how long that is, or nothing for a lease that is ending.
    pub(crate) fn renew(&mut self, id: i64, term_ms: u64, now: u64) -> Option<u64> {
        // The next tick will move all deadlines by so much.
        let late = self.late(now);
        if self
            .deadlines
            .get(&id)
            .is_some_and(|deadline| deadline.saturating_add(late) <= now)
        {
            return None;
        }
        self.deadlines
            .insert(id, now.saturating_add(term_ms).saturating_sub(late));
        Some(term_ms)
    }

    /// How long the leader slept, or had no quorum, since the last tick.
    fn late(&self, now: u64) -> u64 {
        let gap = self.last_tick.map_or(0, |last| now.saturating_sub(last));
        if gap > TICK_LATE_MS { gap - TICK_MS } else { 0 }
    }

    /// Brings the deadlines in line with the leases that exist; gives those that have ended.
    pub(crate) fn tick(&mut self, leases: impl Iterator<Item = (i64, u64)>, now: u64) -> Vec<i64> {
        let late = self.late(now);
        self.last_tick = Some(now);
        let mut deadlines = BTreeMap::new();
        let mut ended = Vec::new();
        for (id, term_ms) in leases {
            let deadline = self
                .deadlines
                .get(&id)
                .map_or(now.saturating_add(term_ms), |deadline| {
                    deadline.saturating_add(late)
                });
            if deadline <= now {
                ended.push(id);
            }
            deadlines.insert(id, deadline);
        }
        self.deadlines = deadlines;
        ended
    }

    /// Forgets all: the next tick extends every lease by its full term.
    pub(crate) fn reset(&mut self) {
        *self = Clock::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lives_as_long_as_it_is_renewed() {
        let mut clock = Clock::default();
        let leases = || [(7, 1000)].into_iter();
        assert!(clock.tick(leases(), 0).is_empty());
        for now in [100, 200, 300, 400, 500, 600, 700, 800, 900] {
            assert!(clock.tick(leases(), now).is_empty());
        }
        assert_eq!(clock.renew(7, 1000, 900), Some(1000));
        assert!(clock.tick(leases(), 1000).is_empty());
        for now in (1100..1900).step_by(100) {
            assert!(clock.tick(leases(), now).is_empty());
        }
        assert_eq!(clock.tick(leases(), 1900), [7]);
        assert_eq!(
            clock.renew(7, 1000, 1900),
            None,
            "an ended lease is not brought back"
        );
    }

    #[test]
    fn a_lease_for_ever_ends_never() {
        let mut clock = Clock::default();
        let leases = || [(7, u64::MAX)].into_iter();
        assert!(clock.tick(leases(), 10).is_empty());
        assert_eq!(clock.renew(7, u64::MAX, 20), Some(u64::MAX));
        assert!(clock.tick(leases(), 50_000).is_empty());
    }

    #[test]
    fn a_leader_that_slept_expires_nobody() {
        let mut clock = Clock::default();
        let leases = || [(7, 1000)].into_iter();
        clock.tick(leases(), 0);
        assert!(clock.tick(leases(), 50_000).is_empty());
    }

    #[test]
    fn a_lease_is_renewed_before_the_first_tick_of_a_leader_that_slept() {
        let mut clock = Clock::default();
        let leases = || [(7, 1000)].into_iter();
        clock.tick(leases(), 0);
        assert_eq!(clock.renew(7, 1000, 50_000), Some(1000));
        assert!(clock.tick(leases(), 50_050).is_empty());
        for now in (50_150..51_000).step_by(100) {
            assert!(clock.tick(leases(), now).is_empty(), "{now}");
        }
        assert_eq!(clock.tick(leases(), 51_050), [7], "no longer than it was told");
    }

    #[test]
    fn a_new_leader_extends_every_lease_by_its_full_term() {
        let mut clock = Clock::default();
        let leases = || [(7, 1000)].into_iter();
        clock.tick(leases(), 0);
        clock.tick(leases(), 300);
        clock.reset();
        clock.tick(leases(), 600);
        assert!(clock.tick(leases(), 900).is_empty());
        assert!(clock.tick(leases(), 1200).is_empty());
        assert!(clock.tick(leases(), 1500).is_empty());
        assert_eq!(clock.tick(leases(), 1600), [7]);
    }
}
