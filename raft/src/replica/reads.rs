//! Ranges and transactions that only read: on threads that may wait for the disk, never on one that heartbeats need.
//!
//! A few keys whose records are in memory are read where they are asked for: that takes no longer than to ask a thread. A range's
//! length is known only when its keys have been walked through, and a record that has left the memory lies in sled, so all
//! else goes to a thread, [`AT_ONCE_MAX`] at once.

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Replica;
use crate::state::State;
use crate::{Error, Range, RangeResult, Txn, TxnResult, task};

/// Reads that have a thread at once; more wait in line. The other blocking threads are left to the log and the snapshots.
const AT_ONCE_MAX: usize = 4;

/// The places of those that have a thread.
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Places {
        Places(Arc::new(Semaphore::new(AT_ONCE_MAX)))
    }
}

impl Replica {
    /// Reads what is applied here.
    pub(crate) async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        match self.state.range_in_memory(&range)? {
            Some(found) => Ok(found),
            None => self.on_a_thread(move |state| state.range(&range)).await,
        }
    }

    /// Does a transaction that only reads what is applied here.
    pub(crate) async fn read_txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        match self.state.read_txn_in_memory(&txn)? {
            Some(done) => Ok(done),
            None => self.on_a_thread(move |state| state.read_txn(&txn)).await,
        }
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        read: impl FnOnce(&State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = self.reads.0.clone().acquire_owned().await;
        let place = place.map_err(|_| Error::Stopped)?;
        let state = self.state.clone();
        task::blocking(move || {
            // Given back when it is done, whether anybody waits for it or not.
            let _place = place;
            read(&state)
        })
        .await
    }

    async fn ready_to_read(&self, limit: Duration) -> Result<(), Error> {
        let end = self
            .read_index(ReadPolicy::ReadIndex, limit)
            .await
            .ok_or(Error::NoLeader)?;
        self.applied(end, limit).await
    }

    /// A linearizable range, if this node leads.
    pub(super) async fn leader_range(&self, range: Range, limit: Duration) -> Result<RangeResult, Error> {
        self.ready_to_read(limit).await?;
        timeout(limit, self.range(range))
            .await
            .unwrap_or(Err(Error::Timeout))
    }

    /// A linearizable transaction that only reads, if this node leads.
    pub(super) async fn leader_read_txn(&self, txn: Txn, limit: Duration) -> Result<TxnResult, Error> {
        self.ready_to_read(limit).await?;
        timeout(limit, self.read_txn(txn))
            .await
            .unwrap_or(Err(Error::Timeout))
    }
}
