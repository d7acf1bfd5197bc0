//! Connections that have no session yet: an allowance of each door, a quarter of it for one address. Pure.
//!
//! ```text
//! accepted   one more of its door; where that is one too many, the oldest goes: of its address, else of its door
//! joined     none of them any more
//! ```
//!
//! Always: who holds connections open keeps nobody out, and whoever comes by one door keeps nobody out of another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Instant;

/// Of one door: each is a descriptor, and 64 KiB at most of what it may be owed.
const OF_DOOR_MAX: usize = 1_000;
/// Of one address at one door.
const OF_ADDRESS_MAX: usize = OF_DOOR_MAX / 4;

/// By where a connection came, and from whom where that is known before it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Door {
    /// RawSocket over TCP, from an address.
    Tcp(IpAddr),
    /// The operators' unix socket.
    Operators,
    /// The stages' unix socket.
    Stages,
}

impl Door {
    fn index(self) -> usize {
        match self {
            Door::Tcp(_) => 0,
            Door::Operators => 1,
            Door::Stages => 2,
        }
    }
}

/// Those there are, in order.
#[derive(Debug)]
pub(crate) struct Entering<K> {
    /// The last place that was given.
    last: u64,
    all: BTreeMap<u64, (Instant, K, Door)>,
    places: HashMap<K, u64>,
    of_door: [BTreeSet<u64>; 3],
    of_address: HashMap<IpAddr, BTreeSet<u64>>,
}

impl<K> Default for Entering<K> {
    fn default() -> Entering<K> {
        Entering {
            last: 0,
            all: BTreeMap::new(),
            places: HashMap::new(),
            of_door: Default::default(),
            of_address: HashMap::new(),
        }
    }
}

impl<K: Copy + Eq + Hash> Entering<K> {
    /// One came; gives who has to go for it, who counts no more.
    pub fn enter(&mut self, key: K, door: Door, now: Instant) -> Option<K> {
        self.last += 1;
        self.all.insert(self.last, (now, key, door));
        self.places.insert(key, self.last);
        self.of_door[door.index()].insert(self.last);
        if let Door::Tcp(address) = door {
            self.of_address.entry(address).or_default().insert(self.last);
        }
        let gone = self.oldest_beyond(door)?;
        self.leave(gone);
        Some(gone)
    }

    /// One has a session, or is gone.
    pub fn leave(&mut self, key: K) {
        let Some(place) = self.places.remove(&key) else {
            return;
        };
        let Some((_, _, door)) = self.all.remove(&place) else {
            return;
        };
        self.of_door[door.index()].remove(&place);
        if let Door::Tcp(address) = door
            && let Some(places) = self.of_address.get_mut(&address)
        {
            places.remove(&place);
            if places.is_empty() {
                self.of_address.remove(&address);
            }
        }
    }

    /// The oldest, and since when.
    pub fn first(&self) -> Option<(Instant, K)> {
        let (_, (since, key, _)) = self.all.first_key_value()?;
        Some((*since, *key))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    fn oldest_beyond(&self, door: Door) -> Option<K> {
        let of_address = match door {
            Door::Tcp(address) => self.of_address.get(&address),
            Door::Operators | Door::Stages => None,
        };
        let of_address = of_address.filter(|places| places.len() > OF_ADDRESS_MAX);
        let of_door = Some(&self.of_door[door.index()]).filter(|places| places.len() > OF_DOOR_MAX);
        let oldest = of_address.or(of_door)?.first()?;
        self.all.get(oldest).map(|(_, key, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(last: u8) -> Door {
        Door::Tcp(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn an_address_and_a_door_lose_their_own_oldest() {
        let (mut entering, now) = (Entering::default(), Instant::now());
        let mut next = 0;
        let mut enter = |entering: &mut Entering<u32>, door, count: usize| {
            let gone = (0..count).filter_map(|_| {
                next += 1;
                entering.enter(next, door, now)
            });
            gone.collect::<Vec<u32>>()
        };
        assert!(enter(&mut entering, tcp(9), 1).is_empty());
        assert!(enter(&mut entering, tcp(1), OF_ADDRESS_MAX).is_empty());
        assert_eq!(enter(&mut entering, tcp(1), 2), [2, 3], "its own");
        for last in 2..=3 {
            assert!(enter(&mut entering, tcp(last), OF_ADDRESS_MAX).is_empty());
        }
        assert!(enter(&mut entering, tcp(4), OF_ADDRESS_MAX - 1).is_empty());
        assert_eq!(enter(&mut entering, tcp(5), 1), [1], "the oldest of the door");
        assert!(enter(&mut entering, Door::Operators, OF_DOOR_MAX).is_empty());
        assert_eq!(enter(&mut entering, Door::Operators, 1).len(), 1);
        assert!(enter(&mut entering, Door::Stages, 1).is_empty());
        assert_eq!(entering.len(), 2 * OF_DOOR_MAX + 1);
    }

    #[test]
    fn who_leaves_counts_no_more() {
        let (mut entering, now) = (Entering::default(), Instant::now());
        for key in 0..3 {
            entering.enter(key, tcp(1), now);
        }
        entering.leave(0);
        entering.leave(0);
        assert_eq!(entering.first().map(|(_, key)| key), Some(1));
        entering.leave(1);
        entering.leave(2);
        assert_eq!(entering.len(), 0);
        assert!(entering.places.is_empty() && entering.of_address.is_empty());
        assert!(entering.of_door.iter().all(BTreeSet::is_empty));
    }
}
