//! A node's presence, as an agent keeps it (agent/src/cluster/presence.rs): the lease of a former life is revoked, a new one
//! is renewed each 500 ms, and taken anew once it was lost.

use std::time::Duration;

use pipes_job::key;
use pipes_raft::Error;
use tokio::time::sleep;

use crate::history::LeaseOp;
use crate::jobs::seat::Seat;
use crate::life::alive;

/// As an agent's.
const LEASE_MS: u64 = 3_000;
const RENEW_EVERY: Duration = Duration::from_millis(500);
/// The rest after an error.
const REST: Duration = Duration::from_millis(100);

impl Seat {
    /// Keeps the node present for ever.
    pub(super) async fn keep_present(&self) {
        self.revoke_former().await;
        loop {
            match self.appear().await {
                Ok(lease) => self.renew(lease).await,
                Err(_) => sleep(REST).await,
            }
        }
    }

    async fn revoke_former(&self) {
        loop {
            let revoked = match alive(&self.name, self.store.get(key::presence(self.node))).await {
                Ok(Some(former)) if former.lease != 0 => self.revoke(former.lease).await,
                there => there.map(drop),
            };
            match revoked {
                Ok(()) | Err(Error::LeaseNotFound) => return,
                Err(_) => sleep(REST).await,
            }
        }
    }

    async fn revoke(&self, lease: i64) -> Result<(), Error> {
        if let Some(known) = self.shared.lock().leases.get_mut(&lease) {
            known.is_revoked = true;
        }
        alive(&self.name, self.store.revoke(lease)).await
    }

    async fn appear(&self) -> Result<i64, Error> {
        let begun_ms = self.shared.lock().now_ms;
        let lease = alive(&self.name, self.store.grant(Duration::from_millis(LEASE_MS), 0)).await?;
        let known = LeaseOp {
            ttl_ms: LEASE_MS,
            renewed_ms: begun_ms,
            is_revoked: false,
        };
        self.shared.lock().leases.insert(lease, known);
        let put = self.store.put(key::presence(self.node), "{}", Some(lease));
        alive(&self.name, put).await?;
        let mut history = self.shared.lock();
        history.note(format!("{} is present, lease {lease}", self.name));
        Ok(lease)
    }

    /// Renews until the lease is gone.
    async fn renew(&self, lease: i64) {
        loop {
            sleep(RENEW_EVERY).await;
            let begun_ms = self.shared.lock().now_ms;
            match alive(&self.name, self.store.keep_alive(lease)).await {
                Ok(_) => {
                    if let Some(known) = self.shared.lock().leases.get_mut(&lease) {
                        known.renewed_ms = begun_ms;
                    }
                }
                Err(Error::LeaseNotFound) => {
                    let mut history = self.shared.lock();
                    history.note(format!("{} has lost its lease {lease}", self.name));
                    return;
                }
                Err(_) => {}
            }
        }
    }

    /// Gives the lease back, as an agent does that stops in order.
    pub(super) async fn disappear(&self) {
        let there = alive(&self.name, self.store.get(key::presence(self.node))).await;
        if let Ok(Some(presence)) = there {
            // Else it ends by itself.
            let _ = self.revoke(presence.lease).await;
        }
    }
}
