//! A transaction to its end: sent again where its answer was lost, since each of ours compares that it was not done.

use std::time::Duration;

use pipes_raft::{Error, Txn, TxnResult};

use crate::jobs::Jobs;

/// The first rest before it is sent again, and the longest.
const REST: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

impl Jobs {
    /// Does it, for so long at most. What it answers may be that of a second sending, which found the first one done.
    pub(super) async fn commit(&self, txn: &Txn, within: Duration) -> Result<TxnResult, Error> {
        let until = self.clock().monotonic() + within;
        let mut rest = REST.0;
        loop {
            match self.store().txn(txn.clone()).await {
                Err(error)
                    if (error.may_retry() || error == Error::Unknown) && self.clock().monotonic() < until =>
                {
                    self.clock().sleep(rest).await;
                    rest = (rest * 2).min(REST.1);
                }
                answered => return answered,
            }
        }
    }
}
