//! Whether what clients of registers were told can be explained by one order of all they did.
//!
//! A register holds a number, and every write of it is of a number of its own; so each number has a cluster: its write and
//! the reads that gave it. For histories of this kind there is an exact answer without a search (Gibbons and Korach,
//! "Testing Shared Memories", SIAM J. Comput. 26(4), 1997, section 4; Golab, Li and Shah, PODC 2011, have it as here):
//!
//! ```text
//! first end < last begin    the number was surely there in between: a forward zone     |----->
//! else                      at one moment at least between the two: a backward zone    <-----|
//! ```
//!
//! The history is linearizable if and only if (1) no read ended before its number's write began; (2) no two forward zones
//! overlap; (3) no backward zone lies wholly within a forward one.
//!
//! A write without an answer may take effect at any time after it began, or never: it counts only if somebody read it.

use std::collections::BTreeMap;

/// What a client did to one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It wrote this number, which nobody else writes.
    Write(u64),
    /// It read this number; `None`: the register had never been written.
    Read(Option<u64>),
}

/// A deed with its times, in microseconds of one clock.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// What was done.
    pub deed: Deed,
    /// Before it was sent.
    pub begun_us: u64,
    /// After its answer came; `None`: none came.
    pub ended_us: Option<u64>,
}

/// A number's write and reads, as far as the answer needs them.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    write_begun: Option<u64>,
    is_read: bool,
    first_end: u64,
    last_begin: u64,
}

impl Cluster {
    const EMPTY: Cluster = Cluster {
        write_begun: None,
        is_read: false,
        first_end: u64::MAX,
        last_begin: 0,
    };

    fn is_forward(&self) -> bool {
        self.first_end < self.last_begin
    }
}

/// What is wrong with the history of one register; `None`: one order explains all of it.
pub fn violation(history: &[Operation]) -> Option<String> {
    // What a register holds before its first write counts as written before anything began.
    let mut clusters: BTreeMap<Option<u64>, Cluster> = BTreeMap::new();
    let mut reads = Vec::new();
    clusters.insert(
        None,
        Cluster {
            write_begun: Some(0),
            first_end: 0,
            ..Cluster::EMPTY
        },
    );
    for operation in history {
        let Operation {
            deed,
            begun_us,
            ended_us,
        } = *operation;
        let number = match (deed, ended_us) {
            (Deed::Write(number), _) => Some(number),
            (Deed::Read(number), Some(ended)) => {
                reads.push((number, ended));
                number
            }
            // Nobody knows what it would have read.
            (Deed::Read(_), None) => continue,
        };
        let cluster = clusters.entry(number).or_insert(Cluster::EMPTY);
        match deed {
            Deed::Write(_) => cluster.write_begun = Some(begun_us),
            Deed::Read(_) => cluster.is_read = true,
        }
        cluster.first_end = cluster.first_end.min(ended_us.unwrap_or(u64::MAX));
        cluster.last_begin = cluster.last_begin.max(begun_us);
    }
    for (number, ended) in reads {
        match clusters.get(&number).and_then(|cluster| cluster.write_begun) {
            None => return Some(format!("{number:?} was read, and nobody wrote it")),
            Some(begun) if ended < begun => {
                return Some(format!(
                    "{number:?} was read until {ended}, and written from {begun}"
                ));
            }
            Some(_) => {}
        }
    }
    // A write without an answer that nobody read need not have happened.
    clusters.retain(|_, cluster| cluster.is_read || cluster.first_end < u64::MAX);
    conflict(&clusters)
}

/// Two clusters that cannot both be.
fn conflict(clusters: &BTreeMap<Option<u64>, Cluster>) -> Option<String> {
    let (mut forward, backward): (Vec<_>, Vec<_>) =
        clusters.iter().partition(|(_, cluster)| cluster.is_forward());
    forward.sort_by_key(|(_, cluster)| cluster.first_end);
    for pair in forward.windows(2) {
        let ((one, first), (other, second)) = (pair[0], pair[1]);
        if second.first_end < first.last_begin {
            return Some(format!(
                "{one:?} was there from {} to {}, and {other:?} from {} to {}",
                first.first_end, first.last_begin, second.first_end, second.last_begin
            ));
        }
    }
    for (number, zone) in backward {
        // Of the forward zones, which do not overlap, only the last that begins before it can hold it.
        let before = forward.partition_point(|(_, of)| of.first_end < zone.last_begin);
        let holder = before.checked_sub(1).and_then(|at| forward.get(at));
        if let Some((one, of)) = holder
            && zone.first_end < of.last_begin
        {
            return Some(format!(
                "{number:?} was there between {} and {}, all of which {one:?} was there",
                zone.last_begin, zone.first_end
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(number: u64, begun_us: u64, ended_us: impl Into<Option<u64>>) -> Operation {
        Operation {
            deed: Deed::Write(number),
            begun_us,
            ended_us: ended_us.into(),
        }
    }

    fn read(number: impl Into<Option<u64>>, begun_us: u64, ended_us: u64) -> Operation {
        Operation {
            deed: Deed::Read(number.into()),
            begun_us,
            ended_us: Some(ended_us),
        }
    }

    #[test]
    fn what_one_order_explains_is_no_violation() {
        for history in [
            vec![],
            vec![read(None, 1, 2), write(1, 3, 4), read(1, 5, 6)],
            // Concurrent with the write, reads may see either; once one saw the new, none begins later that sees the old.
            vec![write(1, 1, 10), read(None, 2, 3), read(1, 4, 5), read(1, 6, 7)],
            vec![write(1, 1, 10), write(2, 1, 10), read(2, 11, 12)],
            // Without an answer, a write may come late or not at all.
            vec![write(1, 1, 2), write(2, 3, None), read(1, 4, 5), read(2, 90, 91)],
            vec![write(1, 1, 2), write(2, 3, None), read(1, 90, 91)],
        ] {
            assert_eq!(violation(&history), None, "{history:?}");
        }
    }

    #[test]
    fn what_no_order_explains_is_found() {
        for history in [
            // Older than what was written before it began.
            vec![write(1, 1, 2), read(None, 3, 4)],
            vec![write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)],
            // Older than what was read before it began.
            vec![write(1, 1, 20), read(1, 2, 3), read(None, 4, 5)],
            vec![write(1, 1, 2), write(2, 3, None), read(2, 4, 5), read(1, 6, 7)],
            // From nowhere, and before it was there.
            vec![read(7, 1, 2)],
            vec![read(7, 1, 2), write(7, 3, 4)],
            // Two readers that saw two writes in two orders.
            vec![
                write(1, 1, 10),
                write(2, 1, 10),
                read(1, 11, 12),
                read(2, 13, 14),
                read(1, 15, 16),
            ],
        ] {
            assert!(violation(&history).is_some(), "{history:?}");
        }
    }

    /// All orders of a few operations, one after another: slow, and surely right.
    fn has_an_order(history: &[Operation]) -> bool {
        fn go(history: &[Operation], done: u32, state: Option<u64>) -> bool {
            let is_left = |at: usize| done & (1 << at) == 0;
            let answered = (0..history.len()).filter(|at| is_left(*at) && history[*at].ended_us.is_some());
            if answered.clone().count() == 0 {
                return true;
            }
            let first_end = answered
                .filter_map(|at| history[at].ended_us)
                .min()
                .unwrap_or(u64::MAX);
            (0..history.len()).filter(|at| is_left(*at)).any(|at| {
                let next = match history[at].deed {
                    _ if history[at].begun_us > first_end => return false,
                    Deed::Write(number) => Some(number),
                    Deed::Read(number) if number == state => state,
                    Deed::Read(_) => return false,
                };
                go(history, done | (1 << at), next)
            })
        }
        go(history, 0, None)
    }

    #[test]
    fn it_agrees_with_trying_every_order_of_small_histories() {
        use rand::Rng;
        let mut random = crate::random::generator(7);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..20_000 {
            // Every time once, or which of two came first would be a matter of taste.
            let mut times: Vec<u64> = (1..=16).collect();
            rand::seq::SliceRandom::shuffle(&mut times[..], &mut random);
            let history: Vec<Operation> = (0..random.random_range(2..8_usize))
                .map(|at| {
                    let (one, other) = (times[2 * at], times[2 * at + 1]);
                    let (begun, ended) = (one.min(other), one.max(other));
                    if at < 3 {
                        write(at as u64, begun, random.random_bool(0.8).then_some(ended))
                    } else {
                        let number = random.random_range(0..4_u64);
                        read((number < 3).then_some(number), begun, ended)
                    }
                })
                .collect();
            let expected = has_an_order(&history);
            assert_eq!(violation(&history).is_none(), expected, "{history:?}");
            *if expected { &mut good } else { &mut bad } += 1;
        }
        assert!(good > 1_000 && bad > 1_000, "{good} good, {bad} bad");
    }
}
