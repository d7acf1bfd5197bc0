//! What a transaction would write, and what it answers, found out before anything is written.
//!
//! Its own writes are kept beside the state, and hide what they replace from what it reads after them. So one that turns
//! out to read too much is refused like any other mistake: nothing has changed.

use std::collections::BTreeMap;
use std::iter;

use super::database::{Database, Records};
use super::decide::{Decided, DecidedOp};
use super::keyspace::bounds;
use super::reads::Reads;
use super::revision::{Record, Revision};
use crate::{Error, KeyValue, Op, OpResult, Range, RangeResult, TxnResult};

/// A transaction's writes, being found out.
pub(super) struct Plan<'a> {
    database: &'a Database,
    records: &'a dyn Records,
    reads: Reads,
    written: Written<'a>,
}

/// Its writes in order, as they will be stored.
struct Written<'a> {
    /// The revision that they will have.
    main: i64,
    writes: Vec<Record>,
    /// Which of them is the last of a key.
    last: BTreeMap<&'a [u8], u32>,
}

/// The records that it wrote, and beneath them those of the state before.
struct Seen<'a> {
    written: &'a Written<'a>,
    before: &'a dyn Records,
}

impl Records for Seen<'_> {
    fn record(&self, revision: Revision) -> Result<Option<Record>, Error> {
        match revision.main == self.written.main {
            true => Ok(self.written.writes.get(revision.sub as usize).cloned()),
            false => self.before.record(revision),
        }
    }
}

impl<'a> Written<'a> {
    fn over<'w>(&'w self, before: &'w dyn Records) -> Seen<'w> {
        Seen {
            written: self,
            before,
        }
    }

    fn add(&mut self, key: &'a [u8], record: Record) {
        self.last.insert(key, self.writes.len() as u32);
        self.writes.push(record);
    }

    /// Where a write lies; nowhere that of a deletion.
    fn place(&self, sub: u32) -> Option<Revision> {
        let record = self.writes.get(sub as usize)?;
        let main = self.main;
        (!record.is_deletion()).then_some(Revision { main, sub })
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new(database: &'a Database, records: &'a dyn Records, reads: Reads) -> Plan<'a> {
        Plan {
            database,
            records,
            reads,
            written: Written {
                main: database.revision + 1,
                writes: Vec::new(),
                last: BTreeMap::new(),
            },
        }
    }

    /// What a transaction, or one within it, answers.
    pub(super) fn answer(&mut self, decided: &Decided<'a>) -> Result<TxnResult, Error> {
        let mut responses = Vec::with_capacity(decided.ops.len());
        for op in &decided.ops {
            responses.push(match op {
                DecidedOp::Op(Op::Put { key, value, lease }) => {
                    self.put(key, value, lease.unwrap_or(0));
                    OpResult::Put
                }
                DecidedOp::Op(Op::Delete { key, end, prev }) => self.delete(key, end.as_deref(), *prev)?,
                DecidedOp::Op(Op::Range(range)) => OpResult::Range(self.range(range)?),
                // `decide` has turned every inner transaction into the other kind.
                DecidedOp::Op(Op::Txn(_)) => continue,
                DecidedOp::Txn(inner) => OpResult::Txn(self.answer(inner)?),
            });
        }
        Ok(TxnResult {
            succeeded: decided.succeeded,
            revision: 0,
            responses,
        })
    }

    /// What is to be written, in order.
    pub(super) fn into_writes(self) -> Vec<Record> {
        self.written.writes
    }

    fn put(&mut self, key: &'a [u8], value: &[u8], lease: i64) {
        let (create, version) = self.database.keys.next(key, self.written.main);
        let record = Record {
            key: key.to_vec(),
            value: value.to_vec(),
            create,
            version,
            lease,
        };
        self.written.add(key, record);
    }

    fn delete(&mut self, key: &'a [u8], end: Option<&'a [u8]>, prev: bool) -> Result<OpResult, Error> {
        let mut found = Vec::new();
        for (key, place) in walk(self.database, &self.written, key, end) {
            match place {
                Some(place) => found.push((key, place)),
                None => self.reads.key()?,
            }
        }
        let deleted = found.len();
        let mut before: Vec<KeyValue> = Vec::new();
        for (key, place) in found {
            if prev && self.reads.is_answered() {
                let record = self.written.over(self.records).record(place)?;
                if let Some(record) = record {
                    self.reads.record(&record)?;
                    before.push(record.into_key_value(place.main));
                }
            }
            self.written.add(key, Record::deletion(key.to_vec()));
        }
        Ok(OpResult::Delete {
            deleted,
            prev: before,
        })
    }

    fn range(&mut self, range: &'a Range) -> Result<RangeResult, Error> {
        if !self.reads.is_answered() {
            return Ok(RangeResult::default());
        }
        let reads = &mut self.reads;
        let selection = match range.revision {
            1.. => self.database.select(range, reads)?,
            _ => {
                let keys = walk(self.database, &self.written, &range.key, range.end.as_deref());
                self.database.select_of(range, keys, reads)?
            }
        };
        selection.fetch(&self.written.over(self.records), reads)
    }
}

/// The keys of a range in order, those that are not live too: where the record of each lies now.
fn walk<'a>(
    database: &'a Database,
    written: &Written<'a>,
    key: &'a [u8],
    end: Option<&'a [u8]>,
) -> impl Iterator<Item = (&'a [u8], Option<Revision>)> {
    let before = database.keys.walk(key, end, database.revision);
    let mut before = before
        .map(|(key, found)| (key, found.map(|found| found.revision)))
        .peekable();
    let own = bounds(key, end).map(|bounds| written.last.range::<[u8], _>(bounds));
    let mut own = own
        .into_iter()
        .flatten()
        .map(|(key, sub)| (*key, written.place(*sub)))
        .peekable();
    iter::from_fn(move || match (before.peek(), own.peek()) {
        (Some((key, _)), Some((written, _))) if key == written => {
            before.next();
            own.next()
        }
        (Some((key, _)), Some((written, _))) if key < written => before.next(),
        (Some(_), None) => before.next(),
        _ => own.next(),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::database::Changes;
    use super::*;
    use crate::command::{ApplyResult, Command};
    use crate::{Compare, CompareOp, Target, Txn};

    const MIB: usize = 1024 * 1024;

    /// A database with what it stored, and how often a record of that was read.
    #[derive(Default)]
    struct World {
        database: Database,
        stored: BTreeMap<Revision, Record>,
        read: Cell<usize>,
    }

    impl Records for World {
        fn record(&self, revision: Revision) -> Result<Option<Record>, Error> {
            self.read.set(self.read.get() + 1);
            Ok(self.stored.get(&revision).cloned())
        }
    }

    impl World {
        /// With so many keys `k/...` of values of so many octets.
        fn with(keys: usize, len: usize) -> World {
            let mut world = World::default();
            for batch in (0..keys).collect::<Vec<_>>().chunks(100) {
                let puts = batch
                    .iter()
                    .map(|key| Op::put(format!("k/{key:06}"), vec![b'v'; len]));
                world.done(Command::Txn(ops(puts.collect())));
            }
            world
        }

        fn apply(&mut self, command: Command) -> (ApplyResult, Changes) {
            let mut database = std::mem::take(&mut self.database);
            let mut changes = Changes::default();
            let answer = database.apply(command, 1, self, &mut changes);
            self.database = database;
            (answer.unwrap(), changes)
        }

        fn done(&mut self, command: Command) -> TxnResult {
            let (answer, changes) = self.apply(command);
            self.stored.extend(changes.records);
            match answer {
                ApplyResult::Txn(result) => result,
                other => panic!("{other:?}"),
            }
        }

        /// Asserts that it is refused, and that nothing is written; gives how many records were read.
        fn refused(&mut self, txn: Txn) -> usize {
            let before = (self.database.revision, self.read.get());
            let (answer, changes) = self.apply(Command::Txn(txn));
            assert_eq!(answer, ApplyResult::Failed(Error::ReadsTooMuch));
            assert!(changes.records.is_empty());
            assert_eq!(self.database.revision, before.0);
            assert_eq!(self.database.keys.at(b"new", i64::MAX), None);
            self.read.get() - before.1
        }
    }

    fn ops(success: Vec<Op>) -> Txn {
        Txn {
            success,
            ..Txn::default()
        }
    }

    fn all() -> Range {
        Range::prefix("k/")
    }

    /// A put, and what is asked for a hundred times over.
    fn hundred(op: &Op) -> Vec<Op> {
        let mut hundred = vec![Op::put("new", "1")];
        hundred.extend(std::iter::repeat_n(op.clone(), 100));
        hundred
    }

    #[test]
    fn a_transaction_that_reads_too_much_writes_nothing_and_reads_no_further() {
        let mut world = World::with(3, MIB);
        assert_eq!(world.refused(ops(hundred(&Op::Range(all())))), 8);
        let keys_only = Range {
            keys_only: true,
            ..all()
        };
        assert_eq!(world.refused(ops(hundred(&Op::Range(keys_only)))), 8);
        let within = Op::Txn(ops(vec![Op::Range(all())]));
        assert_eq!(world.refused(ops(hundred(&within))), 8);
        let twice = vec![Op::put("new", "1"), Op::Range(all()), Op::Range(all())];
        let done = world.done(Command::Txn(ops(twice)));
        assert_eq!((done.revision, done.responses.len()), (3, 3));
    }

    #[test]
    fn what_a_transaction_wrote_itself_counts_where_it_is_read() {
        let mut world = World::default();
        let mut reads = vec![Op::put("new", vec![b'v'; MIB])];
        reads.extend(std::iter::repeat_n(Op::Range(Range::key("new")), 8));
        world.refused(ops(reads));
    }

    #[test]
    fn what_a_deletion_answers_counts() {
        let mut world = World::with(9, MIB);
        let delete = |prev| Op::Delete {
            key: "k/".into(),
            end: Some(crate::prefix_end(b"k/")),
            prev,
        };
        assert_eq!(world.refused(ops(vec![Op::put("new", "1"), delete(true)])), 8);
        let done = world.done(Command::Txn(ops(vec![delete(false)])));
        assert!(matches!(
            done.responses[..],
            [OpResult::Delete { deleted: 9, .. }]
        ));
    }

    #[test]
    fn what_comparisons_read_counts() {
        let mut world = World::with(3, MIB);
        let compare = Compare {
            key: "k/".into(),
            end: Some(crate::prefix_end(b"k/")),
            target: Target::Value(b"a".to_vec()),
            op: CompareOp::Greater,
        };
        let txn = Txn {
            compares: vec![compare; 100],
            ..ops(vec![Op::put("new", "1")])
        };
        assert_eq!(world.refused(txn), 8);
    }

    #[test]
    fn keys_that_are_only_counted_or_are_deleted_are_passed_over_and_count() {
        let mut world = World::with(11_000, 1);
        let count = Op::Range(Range {
            count_only: true,
            ..all()
        });
        assert_eq!(world.refused(ops(hundred(&count))), 0);
        let delete = Op::Delete {
            key: "k/".into(),
            end: Some(crate::prefix_end(b"k/")),
            prev: false,
        };
        world.done(Command::Txn(ops(vec![delete.clone()])));
        assert_eq!(world.refused(ops(hundred(&count))), 0);
        assert_eq!(world.refused(ops(hundred(&delete))), 0);
    }

    #[test]
    fn an_entry_of_before_is_done_whatever_it_reads() {
        let mut world = World::with(3, MIB);
        let done = world.done(Command::FormerTxn(ops(hundred(&Op::Range(all())))));
        assert_eq!((done.revision, world.read.get()), (3, 0));
        assert!(world.database.keys.at(b"new", 3).is_some());
    }
}
