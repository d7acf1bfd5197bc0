//! Transactions: compare, then do one of two branches, all in one revision.
//!
//! First every comparison, inner ones too, is decided against the state before, and the leases that the chosen puts name
//! are looked up (`decide.rs`); then what it writes and answers is found out (`plan.rs`), within what it may read
//! (`reads.rs`); only then anything is done, so that a refused transaction has changed nothing.
//!
//! Always: (1) a transaction that writes has one revision more, one that only reads or deletes nothing has none;
//! (2) no key is put twice, nor put and deleted, by branches that could both run: that is refused before it is
//! proposed; (3) a read within sees what was written before it within.

use std::collections::BTreeSet;

use super::database::{Changes, Database, Records, Selection};
use super::decide::{Decided, DecidedOp};
use super::plan::Plan;
use super::reads::Reads;
use super::revision::{Record, Revision};
use crate::{Error, OPERATIONS_MAX, Op, OpResult, Txn, TxnResult};

/// How deep transactions may lie in one another; deeper ones are refused, since each level is one of the stack.
const DEPTH_MAX: usize = 8;

/// Refuses a transaction that no state could accept. Asked where it is proposed, and again where it is applied.
pub(crate) fn check(txn: &Txn) -> Result<(), Error> {
    check_shape(txn, 0)?;
    writes(&txn.success)?;
    writes(&txn.failure)?;
    Ok(())
}

/// Whether no branch could write anything: then it needs no log entry.
pub(crate) fn only_reads(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Txn(inner) => only_reads(inner),
        Op::Put { .. } | Op::Delete { .. } => false,
    })
}

fn check_shape(txn: &Txn, depth: usize) -> Result<(), Error> {
    let longest = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
    if longest > OPERATIONS_MAX || depth == DEPTH_MAX {
        return Err(Error::TooManyOperations);
    }
    if txn
        .compares
        .iter()
        .any(|compare| compare.key.is_empty() && compare.end.is_none())
    {
        return Err(Error::KeyNotProvided);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        let is_named = match op {
            Op::Put { key, .. } => !key.is_empty(),
            Op::Delete { key, end, .. } => !key.is_empty() || end.is_some(),
            Op::Range(range) => !range.key.is_empty() || range.end.is_some(),
            Op::Txn(txn) => {
                check_shape(txn, depth + 1)?;
                true
            }
        };
        if !is_named {
            return Err(Error::KeyNotProvided);
        }
    }
    Ok(())
}

/// What a list of operations may write: the keys put, and the ranges deleted.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

impl<'a> Writes<'a> {
    fn may_delete(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|(from, end)| match end {
            None => *from == key,
            Some([0]) => key >= *from,
            Some(end) => key >= *from && key < *end,
        })
    }

    fn clashes(&self, other: &Writes<'a>) -> bool {
        other
            .puts
            .iter()
            .any(|key| self.puts.contains(key) || self.may_delete(key))
            || self.puts.iter().any(|key| other.may_delete(key))
    }

    fn add(&mut self, other: Writes<'a>) {
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }
}

fn writes(ops: &[Op]) -> Result<Writes<'_>, Error> {
    let mut all = Writes::default();
    for op in ops {
        if let Op::Delete { key, end, .. } = op {
            all.deletes.push((key, end.as_deref()));
        }
    }
    for op in ops {
        let one = match op {
            Op::Put { key, .. } => Writes {
                puts: [key.as_slice()].into(),
                deletes: Vec::new(),
            },
            // Only one branch runs: they may write the same keys.
            Op::Txn(txn) => {
                let mut one = writes(&txn.success)?;
                one.add(writes(&txn.failure)?);
                one
            }
            Op::Delete { .. } | Op::Range(_) => continue,
        };
        if all.clashes(&one) {
            return Err(Error::DuplicateKey);
        }
        all.add(one);
    }
    Ok(all)
}

/// What a transaction that only reads found: where its records lie.
#[derive(Debug)]
pub(crate) struct TxnSelection {
    succeeded: bool,
    revision: i64,
    ops: Vec<OpSelection>,
}

#[derive(Debug)]
enum OpSelection {
    Range(Selection),
    Txn(TxnSelection),
}

/// The records written so far, and beneath them those stored before.
pub(crate) struct Overlay<'a> {
    pub(crate) changes: &'a Changes,
    pub(crate) base: &'a dyn Records,
}

impl Records for Overlay<'_> {
    fn record(&self, revision: Revision) -> Result<Option<Record>, Error> {
        match self.changes.records.get(&revision) {
            Some(record) => Ok(Some(record.clone())),
            None => self.base.record(revision),
        }
    }
}

impl Database {
    /// Does a transaction that may read so much.
    pub(super) fn txn(
        &mut self,
        txn: &Txn,
        mut reads: Reads,
        base: &dyn Records,
        changes: &mut Changes,
    ) -> Result<TxnResult, Error> {
        check(txn)?;
        let records = Overlay { changes, base };
        let decided = self.decide(txn, &records, &mut reads)?;
        self.admit(&decided)?;
        let mut plan = Plan::new(self, &records, reads);
        let mut result = plan.answer(&decided)?;
        let writes = plan.into_writes();
        self.write(writes, changes);
        fill_in_revision(&mut result, self.revision);
        Ok(result)
    }

    /// Writes a transaction's records, in one revision.
    fn write(&mut self, records: Vec<Record>, changes: &mut Changes) {
        self.revision += i64::from(!records.is_empty());
        for (sub, record) in records.into_iter().enumerate() {
            let place = Revision {
                main: self.revision,
                sub: sub as u32,
            };
            match record.is_deletion() {
                true => self.keys.delete(&record.key, place),
                false => {
                    self.keys.put(&record.key, place);
                }
            }
            self.leases.attach(&record.key, record.lease);
            changes.record(place, record);
        }
    }

    /// Decides a transaction that only reads, and finds where its records lie; `records` are asked for what is compared.
    pub(crate) fn select_txn(&self, txn: &Txn, records: &dyn Records) -> Result<TxnSelection, Error> {
        check(txn)?;
        let mut reads = Reads::of_txn();
        let decided = self.decide(txn, records, &mut reads)?;
        self.admit(&decided)?;
        self.select_decided(&decided, &mut reads)
    }

    fn select_decided(&self, decided: &Decided<'_>, reads: &mut Reads) -> Result<TxnSelection, Error> {
        let mut ops = Vec::with_capacity(decided.ops.len());
        for op in &decided.ops {
            match op {
                DecidedOp::Op(Op::Range(range)) => ops.push(OpSelection::Range(self.select(range, reads)?)),
                DecidedOp::Txn(inner) => ops.push(OpSelection::Txn(self.select_decided(inner, reads)?)),
                // `only_reads` has looked for writes.
                DecidedOp::Op(_) => {}
            }
        }
        Ok(TxnSelection {
            succeeded: decided.succeeded,
            revision: self.revision,
            ops,
        })
    }
}

impl TxnSelection {
    /// Fetches the records. One that is gone was compacted since the selection was made.
    pub(crate) fn fetch(self, records: &dyn Records) -> Result<TxnResult, Error> {
        self.fetch_within(records, &mut Reads::of_txn())
    }

    fn fetch_within(self, records: &dyn Records, reads: &mut Reads) -> Result<TxnResult, Error> {
        let fetched = self.ops.into_iter().map(|op| match op {
            OpSelection::Range(selection) => selection.fetch(records, reads).map(OpResult::Range),
            OpSelection::Txn(inner) => inner.fetch_within(records, reads).map(OpResult::Txn),
        });
        Ok(TxnResult {
            succeeded: self.succeeded,
            revision: self.revision,
            responses: fetched.collect::<Result<_, Error>>()?,
        })
    }
}

/// Writes the revision into the answers, inner ones too, once it is known.
fn fill_in_revision(result: &mut TxnResult, revision: i64) {
    result.revision = revision;
    for response in &mut result.responses {
        match response {
            OpResult::Range(range) => range.revision = revision,
            OpResult::Txn(inner) => fill_in_revision(inner, revision),
            OpResult::Put | OpResult::Delete { .. } => {}
        }
    }
}
