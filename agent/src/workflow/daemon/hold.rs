//! Has this node's pool hold what the shares of all workflows say of it.

use std::collections::BTreeMap;

use tokio::sync::watch;

use crate::executor::Pool;
use crate::workflow::daemon::share::{self, All};

/// Tells the pool whenever that changes, until the shares are followed no more. What is said before a time without a
/// quorum holds in it.
pub async fn hold(mut shares: watch::Receiver<All>, node: u64, pool: Pool) -> anyhow::Result<()> {
    let mut told = BTreeMap::new();
    while shares.changed().await.is_ok() {
        let wish = share::of_node(&shares.borrow_and_update(), node);
        if wish != told {
            pool.wish(wish.clone()).await;
            told = wish;
        }
    }
    Ok(())
}
