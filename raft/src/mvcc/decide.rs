//! Which branches a transaction takes, and whether the state allows it: decided by the state before it, inner ones too.

use super::database::{Database, Records};
use super::keyspace::Found;
use super::reads::Reads;
use crate::{Compare, CompareOp, Error, Op, Target, Txn};

/// A transaction with its comparisons decided.
pub(super) struct Decided<'a> {
    pub(super) succeeded: bool,
    pub(super) ops: Vec<DecidedOp<'a>>,
}

pub(super) enum DecidedOp<'a> {
    Op(&'a Op),
    Txn(Decided<'a>),
}

impl Database {
    /// The transaction with its comparisons judged now, for whoever wants that mistake.
    #[cfg(sim)]
    pub(crate) fn judge(&self, txn: Txn, records: &dyn Records) -> Result<Txn, Error> {
        let mut holds = true;
        for compare in &txn.compares {
            holds &= self.holds(compare, records, &mut Reads::of_txn())?;
        }
        // A branch that cannot be chosen any more; what it would have answered is the same.
        let never = Compare::key(*b"k", CompareOp::Less, Target::Version(0));
        Ok(Txn {
            compares: if holds { Vec::new() } else { vec![never] },
            ..txn
        })
    }

    pub(super) fn decide<'t>(
        &self,
        txn: &'t Txn,
        records: &dyn Records,
        reads: &mut Reads,
    ) -> Result<Decided<'t>, Error> {
        let mut succeeded = true;
        for compare in &txn.compares {
            if !self.holds(compare, records, reads)? {
                succeeded = false;
                break;
            }
        }
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let mut ops = Vec::with_capacity(branch.len());
        for op in branch {
            ops.push(match op {
                Op::Txn(inner) => DecidedOp::Txn(self.decide(inner, records, reads)?),
                op => DecidedOp::Op(op),
            });
        }
        Ok(Decided { succeeded, ops })
    }

    fn holds(&self, compare: &Compare, records: &dyn Records, reads: &mut Reads) -> Result<bool, Error> {
        let mut is_empty = true;
        for (_, found) in self
            .keys
            .walk(&compare.key, compare.end.as_deref(), self.revision)
        {
            reads.key()?;
            if found.is_none() {
                continue;
            }
            is_empty = false;
            if !self.key_holds(compare, found, records, reads)? {
                return Ok(false);
            }
        }
        // A key that is not there, or a range without keys, is compared as one key of nothing but zeros.
        Ok(!is_empty || self.key_holds(compare, None, records, reads)?)
    }

    fn key_holds(
        &self,
        compare: &Compare,
        found: Option<Found>,
        records: &dyn Records,
        reads: &mut Reads,
    ) -> Result<bool, Error> {
        let record = match (&compare.target, found) {
            (Target::Value(_) | Target::Lease(_), Some(found)) => records.record(found.revision)?,
            _ => None,
        };
        if let Some(record) = &record {
            reads.record(record)?;
        }
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
    pub(super) fn admit(&self, decided: &Decided<'_>) -> Result<(), Error> {
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
}
