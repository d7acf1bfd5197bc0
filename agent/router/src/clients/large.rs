//! Messages over 64 KiB: each is read into a buffer of its own, and there is room for so many bytes of them at once.
//!
//! ```text
//! stages and the agent itself 32 MiB | operators 16 MiB | users' realms together 16 MiB
//! ```
//!
//! A message's room is reserved whole when its head is known, so that what was begun can be finished. A connection has one
//! such message at a time. Whoever finds no room waits for the next that is done with its own, and while somebody waits a
//! message has to come: one whose sender sends a head and nothing else goes.
//!
//! Always: no class takes another's room, nor waits for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt};
use pipes_wamp::router::Key;

use crate::flow_control::class::Class;

/// A frame over this is large: the usual chunk of 64 KiB with its head is not.
pub(crate) const LARGE: usize = (64 << 10) + 512;
/// Bytes reserved at once for stages: a chunk of 256 KiB for each of a hundred, and as much again. One message as large as
/// they may be finds room twice.
const STAGES_MAX: usize = 32 << 20;
/// The same for operators: one message as large as they may be.
const OPERATORS_MAX: usize = 16 << 20;
/// The same for all users' realms.
const USERS_MAX: usize = 16 << 20;
/// How often messages on their way are looked at.
const JUDGED_EVERY: Duration = Duration::from_secs(2);
/// So much of one has to come from look to look while somebody waits: 64 KiB a second, a slow line.
const COMES_AT_LEAST: usize = 128 << 10;
/// How long one may take though nobody waits. One that comes no slower than that is there in time.
const ARRIVES_WITHIN: Duration = Duration::from_secs(300);

/// A large message on its way.
pub(crate) struct Large {
    /// At least as long as the message.
    pub buffer: Vec<u8>,
    /// The message's length: what is reserved.
    pub length: usize,
    /// What of it is there.
    pub filled: usize,
    /// Whose room it takes.
    pub class: Class,
}

/// The room for large messages; `T` has the connections that they come over.
pub(crate) struct LargeRoom<T> {
    shares: [Share<T>; 3],
}

/// The room of one class, or of two.
struct Share<T> {
    max: usize,
    reserved: usize,
    arriving: HashMap<Key<T>, Arriving>,
    waiting: VecDeque<Key<T>>,
    /// Somebody waited when it was looked at last.
    was_short: bool,
    /// When it is looked at next.
    judged_at: Option<Instant>,
}

/// How a message comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comes {
    /// What of it is there.
    pub filled: usize,
    /// Its connection is read; else it is the router that holds it up.
    pub is_read: bool,
}

/// A message on its way, as it was when it was looked at last.
struct Arriving {
    begun: Instant,
    /// What of it was there; `None`: it had not begun.
    filled: Option<usize>,
}

impl<T> Default for LargeRoom<T> {
    fn default() -> LargeRoom<T> {
        LargeRoom {
            shares: [STAGES_MAX, OPERATORS_MAX, USERS_MAX].map(Share::new),
        }
    }
}

impl<T> LargeRoom<T> {
    fn share(&mut self, class: Class) -> &mut Share<T> {
        match class {
            Class::Own | Class::Stages => &mut self.shares[0],
            Class::Operators => &mut self.shares[1],
            Class::Users => &mut self.shares[2],
        }
    }

    /// Reserves room for a message. False: there is none, and the connection waits.
    pub fn reserve(&mut self, key: Key<T>, class: Class, length: usize, now: Instant) -> bool {
        self.share(class).reserve(key, length, now)
    }

    /// A message is there, or will not come. Gives all that wait: who finds no room waits again, behind the others.
    pub fn release(&mut self, key: Key<T>, class: Class, length: usize) -> VecDeque<Key<T>> {
        let share = self.share(class);
        share.arriving.remove(&key);
        share.reserved -= length;
        std::mem::take(&mut share.waiting)
    }

    /// Connections whose message does not come as it should; stages and the agent itself are trusted to send theirs. `comes`
    /// says how a connection's comes; `None`: the connection is gone.
    pub fn overdue(&mut self, now: Instant, comes: impl Fn(Key<T>) -> Option<Comes>) -> Vec<Key<T>> {
        let [_, shares @ ..] = &mut self.shares;
        let overdue = shares.iter_mut().flat_map(|share| share.overdue(now, &comes));
        overdue.collect()
    }

    /// When `overdue` has something to look at.
    pub fn next_overdue(&self) -> Option<Instant> {
        let [_, shares @ ..] = &self.shares;
        shares.iter().filter_map(|share| share.judged_at).min()
    }

    /// How much is reserved.
    pub fn reserved(&self) -> usize {
        self.shares.iter().map(|share| share.reserved).sum()
    }
}

impl<T> Share<T> {
    fn new(max: usize) -> Share<T> {
        Share {
            max,
            reserved: 0,
            arriving: HashMap::new(),
            waiting: VecDeque::new(),
            was_short: false,
            judged_at: None,
        }
    }

    fn reserve(&mut self, key: Key<T>, length: usize, now: Instant) -> bool {
        if self.reserved + length > self.max {
            self.waiting.push_back(key);
            return false;
        }
        self.reserved += length;
        let (begun, filled) = (now, None);
        self.arriving.insert(key, Arriving { begun, filled });
        self.judged_at.get_or_insert(now + JUDGED_EVERY);
        true
    }

    fn overdue(&mut self, now: Instant, comes: impl Fn(Key<T>) -> Option<Comes>) -> Vec<Key<T>> {
        if self.judged_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.waiting.retain(|key| comes(*key).is_some());
        let is_short = !self.waiting.is_empty();
        let was_short = std::mem::replace(&mut self.was_short, is_short);
        let mut overdue = Vec::new();
        for (key, arriving) in &mut self.arriving {
            let comes = comes(*key);
            if comes.is_some_and(|comes| !comes.is_read) {
                (arriving.begun, arriving.filled) = (now, None);
                continue;
            }
            let there = comes.map_or(0, |comes| comes.filled);
            let before = arriving.filled.replace(there);
            let is_slow = before.is_some_and(|before| there < before + COMES_AT_LEAST);
            if (is_short && was_short && is_slow) || now.duration_since(arriving.begun) >= ARRIVES_WITHIN {
                overdue.push(*key);
            }
        }
        self.judged_at = (!self.arriving.is_empty()).then_some(now + JUDGED_EVERY);
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipes_wamp::router::Arena;

    const MESSAGE: usize = 16 << 20;

    fn keys() -> [Key<()>; 4] {
        let mut arena = Arena::default();
        [(); 4].map(|()| arena.insert(()))
    }

    #[test]
    fn no_class_waits_for_another() {
        let (mut room, now) = (LargeRoom::default(), Instant::now());
        let [a, b, c, d] = keys();
        assert!(room.reserve(a, Class::Users, MESSAGE, now));
        assert!(
            !room.reserve(b, Class::Users, MESSAGE, now),
            "users have room for one"
        );
        assert!(room.reserve(c, Class::Operators, MESSAGE, now));
        assert!(room.reserve(d, Class::Stages, MESSAGE, now));
        assert!(room.reserve(b, Class::Own, MESSAGE, now));
        assert!(room.release(c, Class::Operators, MESSAGE).is_empty());
        assert_eq!(room.release(a, Class::Users, MESSAGE), [b]);
    }

    #[test]
    fn a_message_that_does_not_come_goes_when_another_waits() {
        let (mut room, begun) = (LargeRoom::default(), Instant::now());
        let [stuck, comes, waits, gone] = keys();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!(room.reserve(stuck, Class::Users, MESSAGE / 2, begun));
        assert!(room.reserve(comes, Class::Users, MESSAGE / 2, begun));
        assert_eq!(room.next_overdue(), Some(at(2)));
        let filled = |there| {
            move |key: Key<()>| {
                (key != gone).then_some(Comes {
                    filled: if key == comes { there } else { 0 },
                    is_read: true,
                })
            }
        };
        for (look, there) in [(2, 0), (4, 0)] {
            assert!(room.overdue(at(look), filled(there)).is_empty(), "nobody waits");
        }
        assert!(!room.reserve(gone, Class::Users, MESSAGE, at(5)));
        for (look, there) in [(6, 100), (8, 200)] {
            assert!(
                room.overdue(at(look), filled(there)).is_empty(),
                "nobody who is there waits"
            );
        }
        assert!(!room.reserve(waits, Class::Users, MESSAGE, at(9)));
        assert!(
            room.overdue(at(10), filled(300)).is_empty(),
            "not as long as that"
        );
        assert!(room.overdue(at(11), filled(300)).is_empty(), "it is not time");
        let comes_at_least = 300 + COMES_AT_LEAST;
        assert_eq!(room.overdue(at(12), filled(comes_at_least)), [stuck]);
        assert_eq!(room.release(stuck, Class::Users, MESSAGE / 2), [waits]);
        let far = at(300);
        assert_eq!(
            room.overdue(far, filled(2 * comes_at_least)),
            [comes],
            "not within five minutes"
        );
        room.release(comes, Class::Users, MESSAGE / 2);
        room.overdue(far + JUDGED_EVERY, filled(0));
        assert_eq!((room.next_overdue(), room.reserved()), (None, 0));
    }

    #[test]
    fn neither_a_stage_nor_one_that_is_not_read_is_overdue() {
        let (mut room, begun) = (LargeRoom::default(), Instant::now());
        let [stage, held_up, waits, other] = keys();
        assert!(room.reserve(stage, Class::Stages, MESSAGE, begun));
        assert!(room.reserve(held_up, Class::Users, MESSAGE, begun));
        assert!(!room.reserve(waits, Class::Users, MESSAGE, begun));
        assert!(room.reserve(other, Class::Own, MESSAGE, begun));
        let comes = |is_read| move |_: Key<()>| Some(Comes { filled: 0, is_read });
        for look in 1..400 {
            let now = begun + look * JUDGED_EVERY;
            assert!(room.overdue(now, comes(false)).is_empty(), "look {look}");
        }
        for look in 400..403 {
            let now = begun + look * JUDGED_EVERY;
            let overdue = room.overdue(now, comes(true));
            assert_eq!(overdue.contains(&held_up), look > 400, "look {look}");
            assert!(!overdue.contains(&stage) && !overdue.contains(&other));
        }
    }
}
