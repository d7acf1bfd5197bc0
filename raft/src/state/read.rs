//! Reads of what is applied, which keep nobody waiting for the disk.
//!
//! Whoever applies waits for the state's lock, and heartbeats run where it applies: so what a read needs is looked up under
//! the lock, in memory, and its records are fetched without it. A transaction must see one state: its comparisons are
//! judged again once what they lacked has been fetched.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::State;
use super::memtable::Memtable;
use crate::mvcc::{Reads, Record, Records, Revision};
use crate::{Error, Op, Range, RangeResult, Txn, TxnResult};

/// Keys that a transaction may read where it is asked for: as many as a long line names services.
const KEYS_IN_MEMORY_MAX: usize = 16;

impl State {
    /// Reads what is applied here. May wait for the disk.
    pub(crate) fn range(&self, range: &Range) -> Result<RangeResult, Error> {
        let (selection, memtable) = {
            let inner = self.read();
            (
                inner.database.select(range, &mut Reads::of_range())?,
                inner.memtable()?,
            )
        };
        selection.fetch(&*memtable, &mut Reads::of_range())
    }

    /// The same where that takes a moment: of one key, whose record has not left the memory; nothing where it would take
    /// more.
    pub(crate) fn range_in_memory(&self, range: &Range) -> Result<Option<RangeResult>, Error> {
        if range.end.is_some() {
            return Ok(None);
        }
        let (selection, memtable) = {
            let inner = self.read();
            (
                inner.database.select(range, &mut Reads::of_range())?,
                inner.memtable()?,
            )
        };
        let fetched = BTreeMap::new();
        let at_hand = AtHand::new(&memtable, &fetched);
        let found = selection.fetch(&at_hand, &mut Reads::of_range())?;
        Ok(at_hand.is_all().then_some(found))
    }

    /// A transaction that reads a few keys whatever is there, where that takes a moment; nothing where it would take more.
    pub(crate) fn read_txn_in_memory(&self, txn: &Txn) -> Result<Option<TxnResult>, Error> {
        let is_of_a_key = |op: &Op| matches!(op, Op::Range(range) if range.end.is_none());
        let is_short = txn.compares.is_empty() && txn.success.len() <= KEYS_IN_MEMORY_MAX;
        if !is_short || !txn.success.iter().all(is_of_a_key) {
            return Ok(None);
        }
        let fetched = BTreeMap::new();
        let (selection, memtable) = {
            let inner = self.read();
            let memtable = inner.memtable()?;
            let selection = inner
                .database
                .select_txn(txn, &AtHand::new(&memtable, &fetched))?;
            (selection, memtable)
        };
        let at_hand = AtHand::new(&memtable, &fetched);
        let done = selection.fetch(&at_hand)?;
        Ok(at_hand.is_all().then_some(done))
    }

    /// Does a transaction that only reads. May wait for the disk.
    pub(crate) fn read_txn(&self, txn: &Txn) -> Result<TxnResult, Error> {
        let mut fetched = BTreeMap::new();
        let mut reads = Reads::of_txn();
        loop {
            let (memtable, lacking, selection) = {
                let inner = self.read();
                let memtable = inner.memtable()?;
                let at_hand = AtHand::new(&memtable, &fetched);
                let selection = inner.database.select_txn(txn, &at_hand);
                let lacking = at_hand.lacking.into_inner();
                (memtable, lacking, selection)
            };
            if lacking.is_empty() {
                return selection?.fetch(&*memtable);
            }
            for revision in lacking {
                let record = memtable.record(revision)?;
                // All are held until it is done.
                record.iter().try_for_each(|record| reads.record(record))?;
                fetched.insert(revision, record);
            }
        }
    }
}

/// The records that are in memory, and those that were fetched. Any other is noted, and stood in for.
struct AtHand<'a> {
    memtable: &'a Memtable,
    fetched: &'a BTreeMap<Revision, Option<Record>>,
    lacking: RefCell<Vec<Revision>>,
}

impl<'a> AtHand<'a> {
    fn new(memtable: &'a Memtable, fetched: &'a BTreeMap<Revision, Option<Record>>) -> AtHand<'a> {
        AtHand {
            memtable,
            fetched,
            lacking: RefCell::default(),
        }
    }

    /// Whether nothing was stood in for.
    fn is_all(&self) -> bool {
        self.lacking.borrow().is_empty()
    }
}

impl Records for AtHand<'_> {
    fn record(&self, revision: Revision) -> Result<Option<Record>, Error> {
        if let Some(record) = self.memtable.recent(revision) {
            return Ok(Some(record));
        }
        if let Some(record) = self.fetched.get(&revision) {
            return Ok(record.clone());
        }
        // Goes on, so that all that lacks is known at once.
        self.lacking.borrow_mut().push(revision);
        Ok(Some(Record::deletion(Vec::new())))
    }
}
