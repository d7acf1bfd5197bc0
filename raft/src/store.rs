//! The handle to the store: ranges, transactions, leases, watches, the same at every node.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Consistency, Error, KeyValue, Member, Range, RangeResult, Status, Txn, TxnResult, Watch};

/// A cheap handle to the store.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Reads.
    pub async fn range(&self, _range: Range, _consistency: Consistency) -> Result<RangeResult, Error> {
        Err(Error::Stopped)
    }

    /// Reads one key, linearizable.
    pub async fn get(&self, _key: impl Into<Vec<u8>>) -> Result<Option<KeyValue>, Error> {
        Err(Error::Stopped)
    }

    /// Reads all keys that begin with `prefix`, linearizable.
    pub async fn prefix(&self, _prefix: impl Into<Vec<u8>>) -> Result<Vec<KeyValue>, Error> {
        Err(Error::Stopped)
    }

    /// Does a transaction.
    pub async fn txn(&self, _txn: Txn) -> Result<TxnResult, Error> {
        Err(Error::Stopped)
    }

    /// Writes one key; gives the revision.
    pub async fn put(
        &self,
        _key: impl Into<Vec<u8>>,
        _value: impl Into<Vec<u8>>,
        _lease: Option<i64>,
    ) -> Result<i64, Error> {
        Err(Error::Stopped)
    }

    /// Deletes one key; says whether it was there.
    pub async fn delete(&self, _key: impl Into<Vec<u8>>) -> Result<bool, Error> {
        Err(Error::Stopped)
    }

    /// Makes a lease of `ttl`; `id` 0 lets the store choose. Gives its id.
    pub async fn grant(&self, _ttl: Duration, _id: i64) -> Result<i64, Error> {
        Err(Error::Stopped)
    }

    /// Renews a lease; gives the time it now has.
    pub async fn keep_alive(&self, _id: i64) -> Result<Duration, Error> {
        Err(Error::Stopped)
    }

    /// Ends a lease and deletes its keys.
    pub async fn revoke(&self, _id: i64) -> Result<(), Error> {
        Err(Error::Stopped)
    }

    /// Forgets the history before `revision`.
    pub async fn compact(&self, _revision: i64) -> Result<(), Error> {
        Err(Error::Stopped)
    }

    /// Tells every change of the range from `from_revision` on; 0 is from now.
    pub fn watch(&self, _key: impl Into<Vec<u8>>, _end: Option<Vec<u8>>, _from_revision: i64) -> Watch {
        Watch {}
    }

    /// What this node knows of the group.
    pub fn status(&self) -> Status {
        Status::default()
    }

    /// The members, as the leader knows them.
    pub async fn members(&self) -> Result<BTreeMap<u64, Member>, Error> {
        Err(Error::Stopped)
    }

    /// Removes a member for good.
    pub async fn remove_member(&self, _id: u64) -> Result<(), Error> {
        Err(Error::Stopped)
    }
}
