//! Who has come in and is not known yet, or asks for nothing: an allowance of each port, a quarter of it for one address.
//!
//! ```text
//! connected               waits: it is not known yet who this is, or what for
//! greeted, sent a head    asks: what it does then is bounded elsewhere, and nobody ends it from here
//! was answered            waits again, as the youngest
//! ```
//!
//! Always: (1) accepting never waits, so that who holds connections keeps nobody out; (2) where one more is one too many,
//! the oldest that waits goes: of that address at that port, else of that port, else of all; (3) each step looks at none
//! but the oldest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Those that wait at all ports together: no more descriptors than an agent may have.
const ALL_MAX: usize = 4_000;
/// The part of a port's allowance that one address has.
const OF_ADDRESS: usize = 4;

/// Counts connections that wait. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    waiting: Arc<Mutex<Waiting>>,
    met: Arc<AtomicU64>,
}

/// One port.
#[derive(Debug, Clone)]
pub struct Door {
    doors: Doors,
    number: u64,
    /// Those that may wait here.
    most: usize,
}

/// A connection, until it is dropped.
#[derive(Debug)]
pub struct Visitor {
    door: Door,
    address: IpAddr,
    /// Its place among those that wait; `None` while it asks.
    place: Arc<Mutex<Option<u64>>>,
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The last number that was given, to a door or a place.
    last: u64,
    all: BTreeMap<u64, Waiter>,
    of_door: HashMap<u64, BTreeSet<u64>>,
    of_address: HashMap<(u64, IpAddr), BTreeSet<u64>>,
}

#[derive(Debug)]
struct Waiter {
    door: u64,
    address: IpAddr,
    ended: CancellationToken,
}

impl Doors {
    /// One more port, at which so many may wait.
    pub fn open(&self, most: usize) -> Door {
        Door {
            doors: self.clone(),
            number: self.waiting().next(),
            most,
        }
    }

    /// How often one had to go.
    pub fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }

    /// The lock guards plain data, for a few lines.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    /// Somebody has come in from this address.
    pub fn enter(&self, address: IpAddr) -> Visitor {
        let visitor = Visitor {
            door: self.clone(),
            address,
            place: Arc::default(),
            ended: CancellationToken::new(),
        };
        visitor.waits();
        visitor
    }
}

impl Visitor {
    /// Another handle of the same, for those who know when it asks and when it waits.
    pub fn handle(&self) -> Handle {
        Handle {
            door: self.door.clone(),
            address: self.address,
            place: self.place.clone(),
            ended: self.ended.clone(),
        }
    }

    /// Does it, unless this one has to go first.
    pub async fn unless_ended<T>(&self, task: impl Future<Output = T>) -> Option<T> {
        self.ended.run_until_cancelled(task).await
    }

    fn waits(&self) {
        self.handle().waits();
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        // Under the lock, so that a request that ends meanwhile finds it ended or is taken out.
        let mut waiting = self.door.doors.waiting();
        self.ended.cancel();
        let place = self.handle().own_place().take();
        if let Some(place) = place {
            waiting.take(place);
        }
    }
}

/// Says of a connection when it asks and when it waits.
#[derive(Debug, Clone)]
pub struct Handle {
    door: Door,
    address: IpAddr,
    place: Arc<Mutex<Option<u64>>>,
    ended: CancellationToken,
}

/// A request that is under way; dropped, its connection waits again.
#[derive(Debug)]
pub struct Asking(Handle);

impl Handle {
    /// A whole head came.
    pub fn asks(&self) -> Asking {
        self.leave();
        Asking(self.clone())
    }

    fn waits(&self) {
        let waiter = Waiter {
            door: self.door.number,
            address: self.address,
            ended: self.ended.clone(),
        };
        let mut waiting = self.door.doors.waiting();
        if self.ended.is_cancelled() {
            return;
        }
        *self.own_place() = Some(waiting.put(waiter));
        if let Some(oldest) = waiting.oldest_beyond(&self.door, self.address)
            && let Some(waiter) = waiting.take(oldest)
        {
            self.door.doors.met.fetch_add(1, Ordering::Relaxed);
            waiter.ended.cancel();
        }
    }

    fn leave(&self) {
        let place = self.own_place().take();
        if let Some(place) = place {
            self.door.doors.waiting().take(place);
        }
    }

    fn own_place(&self) -> MutexGuard<'_, Option<u64>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.waits();
    }
}

impl Waiting {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn put(&mut self, waiter: Waiter) -> u64 {
        let place = self.next();
        let (door, address) = (waiter.door, waiter.address);
        self.of_door.entry(door).or_default().insert(place);
        self.of_address.entry((door, address)).or_default().insert(place);
        self.all.insert(place, waiter);
        place
    }

    fn take(&mut self, place: u64) -> Option<Waiter> {
        let waiter = self.all.remove(&place)?;
        remove(&mut self.of_door, waiter.door, place);
        remove(&mut self.of_address, (waiter.door, waiter.address), place);
        Some(waiter)
    }

    /// Who has to go, where there is one too many.
    fn oldest_beyond(&self, door: &Door, address: IpAddr) -> Option<u64> {
        let of_address = self.of_address.get(&(door.number, address));
        let of_door = self.of_door.get(&door.number);
        let beyond = |of: Option<&BTreeSet<u64>>, most: usize| {
            of.filter(|of| of.len() > most).and_then(|of| of.first().copied())
        };
        beyond(of_address, door.most / OF_ADDRESS)
            .or_else(|| beyond(of_door, door.most))
            .or_else(|| {
                let oldest = self.all.first_key_value().map(|(place, _)| *place);
                oldest.filter(|_| self.all.len() > ALL_MAX)
            })
    }
}

fn remove<K: std::hash::Hash + Eq>(of: &mut HashMap<K, BTreeSet<u64>>, key: K, place: u64) {
    if let Some(places) = of.get_mut(&key) {
        places.remove(&place);
        if places.is_empty() {
            of.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_DOOR_MAX: usize = 2_000;
    const OF_ADDRESS_MAX: usize = OF_DOOR_MAX / OF_ADDRESS;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn crowd(door: &Door, last: u8, count: usize) -> Vec<Visitor> {
        (0..count).map(|_| door.enter(address(last))).collect()
    }

    fn gone(visitors: &[Visitor]) -> usize {
        visitors
            .iter()
            .filter(|visitor| visitor.ended.is_cancelled())
            .count()
    }

    #[test]
    fn one_address_has_a_quarter_of_a_port_and_its_own_oldest_goes() {
        let doors = Doors::default();
        let door = doors.open(OF_DOOR_MAX);
        let other = door.enter(address(2));
        let many = crowd(&door, 1, OF_ADDRESS_MAX + 3);
        assert_eq!(gone(&many), 3);
        assert_eq!(gone(&many[..3]), 3, "the oldest");
        assert!(!other.ended.is_cancelled());
        let elsewhere = crowd(&doors.open(OF_DOOR_MAX), 1, 1);
        assert_eq!((gone(&elsewhere), gone(&many), doors.met()), (0, 3, 3));
    }

    #[test]
    fn a_port_and_all_ports_have_their_own_most() {
        let doors = Doors::default();
        let (one, other) = (doors.open(OF_DOOR_MAX), doors.open(OF_DOOR_MAX));
        let crowds: Vec<_> = (1..=5).map(|last| crowd(&one, last, OF_ADDRESS_MAX)).collect();
        assert_eq!(gone(&crowds[0]), OF_ADDRESS_MAX, "the oldest of the port");
        let more: Vec<_> = (1..=4).map(|last| crowd(&other, last, OF_ADDRESS_MAX)).collect();
        assert_eq!(more.iter().map(|crowd| gone(crowd)).sum::<usize>(), 0);
        let third = crowd(&doors.open(OF_DOOR_MAX), 9, 2);
        assert_eq!((gone(&third), gone(&crowds[1])), (0, 2), "the oldest of all");
    }

    #[test]
    fn who_asks_is_not_counted_and_comes_back_as_the_youngest() {
        let doors = Doors::default();
        let door = doors.open(OF_DOOR_MAX);
        let asking = door.enter(address(1));
        let request = asking.handle().asks();
        let waiting = crowd(&door, 1, OF_ADDRESS_MAX);
        assert_eq!(gone(&waiting), 0);
        drop(request);
        assert_eq!((gone(&waiting), asking.ended.is_cancelled()), (1, false));
        drop((asking, waiting));
        let waiting = doors.waiting();
        assert!(waiting.all.is_empty() && waiting.of_door.is_empty() && waiting.of_address.is_empty());
    }
}
