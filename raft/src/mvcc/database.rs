//! The database: its revision, its keys and its leases, and what each command does to them.
//!
//! Applying a command changes the index in memory at once and puts what must be stored into [`Changes`]; whoever
//! applies stores them before anybody else may look.

use std::collections::BTreeMap;

use super::digest::Trace;
use super::keyspace::{Found, Keyspace};
use super::lease::Leases;
use super::reads::Reads;
use super::revision::{Record, Revision};
use super::written::Written;
use crate::command::{ApplyResult, Command};
use crate::{Error, KeyValue, Range, RangeResult};

/// Gives records by their revision, from wherever they lie.
pub(crate) trait Records {
    /// The record written at `revision`; nothing if there is none (any more).
    fn record(&self, revision: Revision) -> Result<Option<Record>, Error>;
}

/// What commands changed and must be stored.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// New records.
    pub(crate) records: BTreeMap<Revision, Record>,
    /// Leases made (with their time to live in milliseconds) and ended.
    pub(crate) leases: BTreeMap<i64, Option<u64>>,
    /// Records that a compaction made unreachable.
    pub(crate) unreachable: Vec<Revision>,
    /// Is told of every record and lease, in order. What a compaction cut is not: it follows from where it cut.
    pub(crate) trace: Trace,
}

impl Changes {
    /// A record is written.
    pub(super) fn record(&mut self, revision: Revision, record: Record) {
        self.trace.record(revision, &record);
        self.records.insert(revision, record);
    }

    /// A lease is made with a time to live in milliseconds, or ended.
    fn lease(&mut self, id: i64, ttl_ms: Option<u64>) {
        self.trace.lease(id, ttl_ms);
        self.leases.insert(id, ttl_ms);
    }
}

/// The whole store but for the values.
#[derive(Debug)]
pub(crate) struct Database {
    /// The revision of the last write; an empty store is at 1, as etcd's.
    pub(crate) revision: i64,
    /// The revision up to which history is forgotten.
    pub(crate) compacted: i64,
    /// The keys.
    pub(crate) keys: Keyspace,
    /// The leases.
    pub(crate) leases: Leases,
    /// How much was written.
    pub(crate) written: Written,
}

/// What a range found: where its records lie.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) revision: i64,
    pub(crate) found: Vec<Revision>,
    pub(crate) more: bool,
    pub(crate) count: usize,
    pub(crate) keys_only: bool,
}

impl Default for Database {
    fn default() -> Database {
        Database {
            revision: 1,
            compacted: 0,
            keys: Keyspace::default(),
            leases: Leases::default(),
            written: Written::default(),
        }
    }
}

impl Database {
    /// Does a command. `index` is that of its log entry. An error is this node's own (its disk): what every member
    /// refuses alike is [`ApplyResult::Failed`].
    pub(crate) fn apply(
        &mut self,
        command: Command,
        index: u64,
        base: &dyn Records,
        changes: &mut Changes,
    ) -> Result<ApplyResult, Error> {
        let answer = match command {
            Command::Txn(txn) => self
                .txn(&txn, Reads::of_txn(), base, changes)
                .map(ApplyResult::Txn),
            Command::FormerTxn(txn) => self
                .txn(&txn, Reads::of_former_txn(), base, changes)
                .map(ApplyResult::Txn),
            Command::Grant { id, ttl_ms } => self.grant(id, ttl_ms, index, changes).map(ApplyResult::Id),
            Command::Revoke { id } => self.revoke(id, changes).map(ApplyResult::Done),
            Command::Expire { ids } => {
                for id in ids {
                    // A lease that its owner ended meanwhile is gone already.
                    let _ = self.revoke(id, changes);
                }
                Ok(ApplyResult::Done(self.revision))
            }
            Command::Compact { revision } => self.compact(revision).map(|cut| {
                changes.unreachable.extend(cut);
                ApplyResult::Done(self.revision)
            }),
            Command::Allocate { name: _ } => Ok(ApplyResult::Id(index as i64)),
            // Whoever applies it keeps the digests.
            Command::BeginChain { chain: _ } => Ok(ApplyResult::Nothing),
        };
        match answer {
            Err(error) if error.is_final() => Err(error),
            Err(error) => Ok(ApplyResult::Failed(error)),
            Ok(answer) => Ok(answer),
        }
    }

    fn grant(&mut self, id: i64, ttl_ms: u64, index: u64, changes: &mut Changes) -> Result<i64, Error> {
        let id = self.leases.grant(id, ttl_ms, index as i64)?;
        changes.lease(id, Some(ttl_ms));
        Ok(id)
    }

    /// Ends a lease and deletes its keys, all in one revision.
    fn revoke(&mut self, id: i64, changes: &mut Changes) -> Result<i64, Error> {
        let keys = self.leases.remove(id).ok_or(Error::LeaseNotFound)?;
        changes.lease(id, None);
        if !keys.is_empty() {
            self.revision += 1;
        }
        for (sub, key) in keys.into_iter().enumerate() {
            let revision = Revision {
                main: self.revision,
                sub: sub as u32,
            };
            self.keys.delete(&key, revision);
            changes.record(revision, Record::deletion(key));
        }
        Ok(self.revision)
    }

    /// Puts a record back as it was stored; they come in the order of their revisions.
    pub(crate) fn restore(&mut self, revision: Revision, record: &Record) {
        self.keys
            .restore(&record.key, revision, record.create, record.version);
        self.leases.attach(&record.key, record.lease);
        self.written.add(revision.main, &record.key, &record.value);
        self.revision = self.revision.max(revision.main);
    }

    /// Finds where the records of a range lie.
    pub(crate) fn select(&self, range: &Range, reads: &mut Reads) -> Result<Selection, Error> {
        if range.key.is_empty() && range.end.is_none() {
            return Err(Error::KeyNotProvided);
        }
        if range.revision > self.revision {
            return Err(Error::FutureRevision);
        }
        let at = if range.revision <= 0 {
            self.revision
        } else {
            range.revision
        };
        if at < self.compacted {
            return Err(Error::Compacted {
                revision: self.compacted,
            });
        }
        let keys = self.keys.walk(&range.key, range.end.as_deref(), at);
        let places = keys.map(|(key, found)| (key, found.map(|found| found.revision)));
        self.select_of(range, places, reads)
    }

    /// The same of keys in their order: where the record of each lies, nowhere that of one that is not live.
    pub(super) fn select_of<'a>(
        &self,
        range: &Range,
        keys: impl Iterator<Item = (&'a [u8], Option<Revision>)>,
        reads: &mut Reads,
    ) -> Result<Selection, Error> {
        let mut selection = Selection {
            revision: self.revision,
            keys_only: range.keys_only,
            ..Selection::default()
        };
        for (_, place) in keys {
            reads.key()?;
            let Some(place) = place else { continue };
            selection.count += 1;
            if range.count_only {
                continue;
            }
            if range.limit > 0 && selection.found.len() == range.limit {
                selection.more = true;
                continue;
            }
            selection.found.push(place);
        }
        Ok(selection)
    }

    /// The key as it was right before the write at `revision`, where that can still be read.
    pub(crate) fn previous(
        &self,
        key: &[u8],
        revision: Revision,
        records: &dyn Records,
    ) -> Result<Option<KeyValue>, Error> {
        previous(self.before(key, revision), records)
    }

    /// Where the key's record lies that was valid right before the write at `revision`.
    pub(crate) fn before(&self, key: &[u8], revision: Revision) -> Option<Revision> {
        self.keys
            .before(key, revision)
            .map(|Found { revision, .. }| revision)
    }
}

/// The key as its record at `before` has it, where that can still be read.
pub(crate) fn previous(before: Option<Revision>, records: &dyn Records) -> Result<Option<KeyValue>, Error> {
    let Some(before) = before else { return Ok(None) };
    let record = records.record(before)?;
    Ok(record.map(|record| record.into_key_value(before.main)))
}

impl Selection {
    /// Fetches the records. One that is gone was compacted since the selection was made.
    pub(crate) fn fetch(self, records: &dyn Records, reads: &mut Reads) -> Result<RangeResult, Error> {
        let mut kvs = Vec::new();
        for revision in self.found {
            let gone = Error::Compacted {
                revision: revision.main + 1,
            };
            let record = records.record(revision)?.ok_or(gone)?;
            reads.record(&record)?;
            let mut kv = record.into_key_value(revision.main);
            if self.keys_only {
                kv.value = Vec::new();
            }
            kvs.push(kv);
        }
        Ok(RangeResult {
            revision: self.revision,
            kvs,
            more: self.more,
            count: self.count,
        })
    }
}
