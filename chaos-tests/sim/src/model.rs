//! The store as it should be: a plain model, which does each committed entry once, in order.
//!
//! It keeps every version of every key, so that a read at any revision and any piece of history can be compared.
//! It knows what the clients here use: comparisons of single keys, puts, deletions and ranges; no inner transactions.

use std::collections::{BTreeMap, BTreeSet};

use pipes_raft::sim::{Answered, Write};
use pipes_raft::{
    Compare, CompareOp, Error, KeyValue, Op, OpResult, Range, RangeResult, Target, Txn, TxnResult,
};

/// All keys of clients begin so.
pub const PREFIX: &[u8] = b"k";

/// A version of a key; no value is a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    revision: i64,
    value: Option<Vec<u8>>,
    create: i64,
    version: i64,
    lease: i64,
}

/// A change, as a watch tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Vec<u8>,
    /// Its value, or none for a deletion.
    pub value: Option<Vec<u8>>,
    /// When.
    pub revision: i64,
    /// The lease it hangs on; 0 for none.
    pub lease: i64,
}

#[derive(Debug, Clone)]
struct Lease {
    ttl_ms: u64,
    keys: BTreeSet<Vec<u8>>,
}

/// The store as it should be.
#[derive(Debug)]
pub struct Model {
    /// The revision of the last write.
    pub revision: i64,
    /// History before this one is forgotten.
    pub compacted: i64,
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
    leases: BTreeMap<i64, Lease>,
    /// All changes in order, and where each revision begins.
    changes: Vec<Change>,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            changes: Vec::new(),
        }
    }
}

impl Model {
    /// Does an entry.
    pub fn apply(&mut self, index: u64, write: &Write) -> Answered {
        let answer = match write {
            Write::Blank | Write::Members(_) | Write::Unreadable => return Answered::Nothing,
            Write::Allocate => return Answered::Id(index as i64),
            Write::Txn(txn) => self.txn(txn).map(Answered::Txn),
            Write::Grant(id, ttl_ms) => self.grant(*id, *ttl_ms, index).map(Answered::Id),
            Write::Revoke(id) => self.revoke(*id).map(Answered::Done),
            Write::Expire(ids) => {
                for id in ids {
                    let _ = self.revoke(*id);
                }
                Ok(Answered::Done(self.revision))
            }
            Write::Compact(revision) => self.compact(*revision).map(Answered::Done),
        };
        answer.unwrap_or_else(Answered::Failed)
    }

    fn grant(&mut self, id: i64, ttl_ms: u64, index: u64) -> Result<i64, Error> {
        let is_free = |id: &i64| !self.leases.contains_key(id);
        let id = match id {
            0 => (index as i64..).find(is_free).unwrap_or(0),
            id if is_free(&id) => id,
            _ => return Err(Error::LeaseExists),
        };
        let keys = BTreeSet::new();
        self.leases.insert(id, Lease { ttl_ms, keys });
        Ok(id)
    }

    fn revoke(&mut self, id: i64) -> Result<i64, Error> {
        let lease = self.leases.remove(&id).ok_or(Error::LeaseNotFound)?;
        self.revision += i64::from(!lease.keys.is_empty());
        for key in lease.keys {
            self.write(key, None, self.revision, 0);
        }
        Ok(self.revision)
    }

    fn compact(&mut self, revision: i64) -> Result<i64, Error> {
        if revision <= self.compacted {
            let revision = self.compacted;
            return Err(Error::Compacted { revision });
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compacted = revision;
        Ok(self.revision)
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnResult, Error> {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &txn.success } else { &txn.failure };
        for op in branch {
            match op {
                Op::Put { lease: Some(id), .. } if *id != 0 && !self.leases.contains_key(id) => {
                    return Err(Error::LeaseNotFound);
                }
                Op::Range(range) => self.check(range.revision)?,
                _ => {}
            }
        }
        let next = self.revision + 1;
        let mut has_written = false;
        let mut responses = Vec::new();
        for op in branch {
            responses.push(match op {
                Op::Put { key, value, lease } => {
                    has_written = true;
                    self.write(key.clone(), Some(value.clone()), next, lease.unwrap_or(0));
                    OpResult::Put
                }
                Op::Delete { key, end, prev } => {
                    let found = self.live(key, end.as_deref(), next);
                    has_written |= !found.is_empty();
                    for kv in &found {
                        self.write(kv.key.clone(), None, next, 0);
                    }
                    OpResult::Delete {
                        deleted: found.len(),
                        prev: if *prev { found } else { Vec::new() },
                    }
                }
                Op::Range(range) => {
                    let at = if has_written { next } else { self.revision };
                    OpResult::Range(self.range_at(range, at))
                }
                Op::Txn(_) => return Err(Error::TooManyOperations),
            });
        }
        self.revision += i64::from(has_written);
        for response in &mut responses {
            if let OpResult::Range(range) = response {
                range.revision = self.revision;
            }
        }
        Ok(TxnResult {
            succeeded,
            revision: self.revision,
            responses,
        })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.at(&compare.key, self.revision);
        let ordering = match &compare.target {
            Target::Value(given) => match &found {
                Some(kv) => kv.value.cmp(given),
                None => return false,
            },
            Target::Version(given) => found.map_or(0, |kv| kv.version).cmp(given),
            Target::Create(given) => found.map_or(0, |kv| kv.create_revision).cmp(given),
            Target::Mod(given) => found.map_or(0, |kv| kv.mod_revision).cmp(given),
            Target::Lease(given) => found.map_or(0, |kv| kv.lease).cmp(given),
        };
        match compare.op {
            CompareOp::Equal => ordering.is_eq(),
            CompareOp::NotEqual => ordering.is_ne(),
            CompareOp::Greater => ordering.is_gt(),
            CompareOp::Less => ordering.is_lt(),
        }
    }

    fn write(&mut self, key: Vec<u8>, value: Option<Vec<u8>>, revision: i64, lease: i64) {
        for lease in self.leases.values_mut() {
            lease.keys.remove(&key);
        }
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.insert(key.clone());
        }
        let versions = self.keys.entry(key.clone()).or_default();
        let before = versions.last().filter(|version| version.value.is_some());
        let (create, version) = match (&value, before) {
            (None, _) => (0, 0),
            (Some(_), Some(before)) => (before.create, before.version + 1),
            (Some(_), None) => (revision, 1),
        };
        versions.push(Version {
            revision,
            value: value.clone(),
            create,
            version,
            lease,
        });
        self.changes.push(Change {
            key,
            value,
            revision,
            lease,
        });
    }

    fn at(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let versions = self.keys.get(key)?;
        let version = versions
            .iter()
            .rev()
            .find(|version| version.revision <= revision)?;
        Some(KeyValue {
            key: key.to_vec(),
            value: version.value.clone()?,
            create_revision: version.create,
            mod_revision: version.revision,
            version: version.version,
            lease: version.lease,
        })
    }

    fn live(&self, key: &[u8], end: Option<&[u8]>, revision: i64) -> Vec<KeyValue> {
        let keys = self.keys.keys().filter(|other| contains(key, end, other));
        keys.filter_map(|key| self.at(key, revision)).collect()
    }

    /// Whether a revision can be read.
    pub fn check(&self, revision: i64) -> Result<(), Error> {
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        if revision > 0 && revision < self.compacted {
            let revision = self.compacted;
            return Err(Error::Compacted { revision });
        }
        Ok(())
    }

    /// What a range should be, read when the store was at revision `now`.
    pub fn range_at(&self, range: &Range, now: i64) -> RangeResult {
        let at = if range.revision > 0 { range.revision } else { now };
        let kvs = self.live(&range.key, range.end.as_deref(), at);
        RangeResult {
            revision: now,
            count: kvs.len(),
            more: false,
            kvs,
        }
    }

    /// Where the changes of a revision begin among all.
    pub fn position(&self, revision: i64) -> usize {
        self.changes.partition_point(|change| change.revision < revision)
    }

    /// The first change of a range from a position on, and the position after it.
    pub fn next_change(&self, key: &[u8], end: &[u8], position: usize) -> (Option<&Change>, usize) {
        let rest = self.changes.get(position..).unwrap_or_default();
        let found = rest
            .iter()
            .position(|change| contains(key, Some(end), &change.key));
        match found {
            Some(at) => (rest.get(at), position + at + 1),
            None => (None, self.changes.len()),
        }
    }

    /// The leases with their terms.
    pub fn leases(&self) -> impl Iterator<Item = (i64, u64)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.ttl_ms))
    }
}

fn contains(key: &[u8], end: Option<&[u8]>, other: &[u8]) -> bool {
    match end {
        None => other == key,
        Some([0]) => other >= key,
        Some(end) => other >= key && other < end,
    }
}

/// The serial in a transaction of a client.
pub fn serial(txn: &Txn) -> Option<u64> {
    txn.success.iter().find_map(|op| match op {
        Op::Put { value, .. } => {
            let text = std::str::from_utf8(value).ok()?;
            text.split(' ').next()?.parse().ok()
        }
        _ => None,
    })
}
