//! Transactions: compare, then do one of two branches, all in one revision.
//!
//! First every comparison, inner ones too, is decided against the state before; then the leases that the chosen puts
//! name are looked up; only then anything is done, so that a refused transaction has changed nothing.
//!
//! Always: (1) a transaction that writes has one revision more, one that only reads or deletes nothing has none;
//! (2) no key is put twice, nor put and deleted, by branches that could both run: that is refused before it is
//! proposed; (3) a read within sees what was written before it within.

use std::collections::BTreeSet;

use super::database::{Changes, Database, Records, Selection};
use super::keyspace::Found;
use super::revision::{Record, Revision};
use crate::{Compare, CompareOp, Error, KeyValue, OPERATIONS_MAX, Op, OpResult, Target, Txn, TxnResult};

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

/// A transaction with its comparisons decided.
struct Decided<'a> {
    succeeded: bool,
    ops: Vec<DecidedOp<'a>>,
}

enum DecidedOp<'a> {
    Op(&'a Op),
    Txn(Decided<'a>),
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

/// A transaction being done.
struct Run<'a> {
    revision: i64,
    writes: u32,
    base: &'a dyn Records,
    changes: &'a mut Changes,
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
    /// Does a transaction.
    pub(super) fn txn(
        &mut self,
        txn: &Txn,
        base: &dyn Records,
        changes: &mut Changes,
    ) -> Result<TxnResult, Error> {
        check(txn)?;
        let decided = self.decide(txn, &Overlay { changes, base })?;
        self.admit(&decided)?;
        let mut run = Run {
            revision: self.revision + 1,
            writes: 0,
            base,
            changes,
        };
        let mut result = self.execute(&decided, &mut run)?;
        if run.writes > 0 {
            self.revision = run.revision;
        }
        fill_in_revision(&mut result, self.revision);
        Ok(result)
    }

    /// Decides a transaction that only reads, and finds where its records lie; `records` are asked for what is compared.
    pub(crate) fn select_txn(&self, txn: &Txn, records: &dyn Records) -> Result<TxnSelection, Error> {
        check(txn)?;
        let decided = self.decide(txn, records)?;
        self.admit(&decided)?;
        self.select_decided(&decided)
    }

    fn select_decided(&self, decided: &Decided<'_>) -> Result<TxnSelection, Error> {
        let mut ops = Vec::with_capacity(decided.ops.len());
        for op in &decided.ops {
            match op {
                DecidedOp::Op(Op::Range(range)) => ops.push(OpSelection::Range(self.select(range)?)),
                DecidedOp::Txn(inner) => ops.push(OpSelection::Txn(self.select_decided(inner)?)),
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

    /// The transaction with its comparisons judged now, for whoever wants that mistake.
    #[cfg(sim)]
    pub(crate) fn judge(&self, txn: Txn, records: &dyn Records) -> Result<Txn, Error> {
        let mut holds = true;
        for compare in &txn.compares {
            holds &= self.holds(compare, records)?;
        }
        // A branch that cannot be chosen any more; what it would have answered is the same.
        let never = Compare::key(*b"k", CompareOp::Less, Target::Version(0));
        Ok(Txn {
            compares: if holds { Vec::new() } else { vec![never] },
            ..txn
        })
    }

    fn decide<'t>(&self, txn: &'t Txn, records: &dyn Records) -> Result<Decided<'t>, Error> {
        let mut succeeded = true;
        for compare in &txn.compares {
            if !self.holds(compare, records)? {
                succeeded = false;
                break;
            }
        }
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let mut ops = Vec::with_capacity(branch.len());
        for op in branch {
            ops.push(match op {
                Op::Txn(inner) => DecidedOp::Txn(self.decide(inner, records)?),
                op => DecidedOp::Op(op),
            });
        }
        Ok(Decided { succeeded, ops })
    }

    fn holds(&self, compare: &Compare, records: &dyn Records) -> Result<bool, Error> {
        let mut is_empty = true;
        for (_, found) in self
            .keys
            .range(&compare.key, compare.end.as_deref(), self.revision)
        {
            is_empty = false;
            if !self.key_holds(compare, Some(found), records)? {
                return Ok(false);
            }
        }
        // A key that is not there, or a range without keys, is compared as one key of nothing but zeros.
        Ok(!is_empty || self.key_holds(compare, None, records)?)
    }

    fn key_holds(
        &self,
        compare: &Compare,
        found: Option<Found>,
        records: &dyn Records,
    ) -> Result<bool, Error> {
        let record = match (&compare.target, found) {
            (Target::Value(_) | Target::Lease(_), Some(found)) => records.record(found.revision)?,
            _ => None,
        };
        let number = |own: Option<i64>, given: &i64| own.unwrap_or(0).cmp(given);
        let ordering = match &compare.target {
            Target::Value(given) => match &record {
                Some(record) => record.value.as_slice().cmp(given),
                None => return Ok(false),
            },
            Target::Version(given) => number(found.map(|found| found.version), given),
            Target::Create(given) => number(found.map(|found| found.create), given),
            Target::Mod(given) => number(found.map(|found| found.revision.main), given),
            Target::Lease(given) => number(record.map(|record| record.lease), given),
        };
        Ok(match compare.op {
            CompareOp::Equal => ordering.is_eq(),
            CompareOp::NotEqual => ordering.is_ne(),
            CompareOp::Greater => ordering.is_gt(),
            CompareOp::Less => ordering.is_lt(),
        })
    }

    /// Refuses what the state does not allow: puts under unknown leases, reads of revisions that are not there.
    fn admit(&self, decided: &Decided<'_>) -> Result<(), Error> {
        for op in &decided.ops {
            match op {
                DecidedOp::Op(Op::Put { lease: Some(id), .. }) if *id != 0 && !self.leases.contains(*id) => {
                    return Err(Error::LeaseNotFound);
                }
                DecidedOp::Op(Op::Range(range)) if range.revision > self.revision => {
                    return Err(Error::FutureRevision);
                }
                DecidedOp::Op(Op::Range(range)) if (1..self.compacted).contains(&range.revision) => {
                    return Err(Error::Compacted {
                        revision: self.compacted,
                    });
                }
                DecidedOp::Op(_) => {}
                DecidedOp::Txn(inner) => self.admit(inner)?,
            }
        }
        Ok(())
    }

    fn execute(&mut self, decided: &Decided<'_>, run: &mut Run<'_>) -> Result<TxnResult, Error> {
        let mut responses = Vec::with_capacity(decided.ops.len());
        for op in &decided.ops {
            responses.push(match op {
                DecidedOp::Op(Op::Put { key, value, lease }) => {
                    self.execute_put(key, value, lease.unwrap_or(0), run);
                    OpResult::Put
                }
                DecidedOp::Op(Op::Delete { key, end, prev }) => {
                    self.execute_delete(key, end.as_deref(), *prev, run)?
                }
                DecidedOp::Op(Op::Range(range)) => {
                    // What this transaction wrote lies one revision ahead until it is done.
                    let before = self.revision;
                    if run.writes > 0 {
                        self.revision = run.revision;
                    }
                    let selection = self.select(range);
                    self.revision = before;
                    let records = Overlay {
                        changes: run.changes,
                        base: run.base,
                    };
                    OpResult::Range(selection?.fetch(&records)?)
                }
                // `decide` has turned every inner transaction into the other kind.
                DecidedOp::Op(Op::Txn(_)) => continue,
                DecidedOp::Txn(inner) => OpResult::Txn(self.execute(inner, run)?),
            });
        }
        Ok(TxnResult {
            succeeded: decided.succeeded,
            revision: 0,
            responses,
        })
    }

    fn execute_put(&mut self, key: &[u8], value: &[u8], lease: i64, run: &mut Run<'_>) {
        let revision = run.next_place();
        let (create, version) = self.keys.put(key, revision);
        self.leases.attach(key, lease);
        let record = Record {
            key: key.to_vec(),
            value: value.to_vec(),
            create,
            version,
            lease,
        };
        run.changes.record(revision, record);
    }

    fn execute_delete(
        &mut self,
        key: &[u8],
        end: Option<&[u8]>,
        prev: bool,
        run: &mut Run<'_>,
    ) -> Result<OpResult, Error> {
        let found: Vec<(Vec<u8>, Found)> = self
            .keys
            .range(key, end, run.revision)
            .map(|(key, found)| (key.to_vec(), found))
            .collect();
        let deleted = found.len();
        let mut before: Vec<KeyValue> = Vec::new();
        for (key, found) in found {
            if prev {
                let records = Overlay {
                    changes: run.changes,
                    base: run.base,
                };
                let record = records.record(found.revision)?;
                before.extend(record.map(|record| record.into_key_value(found.revision.main)));
            }
            let revision = run.next_place();
            self.keys.delete(&key, revision);
            self.leases.attach(&key, 0);
            run.changes.record(revision, Record::deletion(key));
        }
        Ok(OpResult::Delete {
            deleted,
            prev: before,
        })
    }
}

impl TxnSelection {
    /// Fetches the records. One that is gone was compacted since the selection was made.
    pub(crate) fn fetch(self, records: &dyn Records) -> Result<TxnResult, Error> {
        let fetched = self.ops.into_iter().map(|op| match op {
            OpSelection::Range(selection) => selection.fetch(records).map(OpResult::Range),
            OpSelection::Txn(inner) => inner.fetch(records).map(OpResult::Txn),
        });
        Ok(TxnResult {
            succeeded: self.succeeded,
            revision: self.revision,
            responses: fetched.collect::<Result<_, Error>>()?,
        })
    }
}

impl Run<'_> {
    fn next_place(&mut self) -> Revision {
        let place = Revision {
            main: self.revision,
            sub: self.writes,
        };
        self.writes += 1;
        place
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
