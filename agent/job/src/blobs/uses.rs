//! What this node uses: executables of its replicas, files of the runs that it coordinates. Each is named under the lease of
//! this node's life before anything starts, so that what is in use is never collected, and what a dead node used is.
//!
//! ```text
//! uses(D)   nobody here does yet    read the lease of this life, take the right to name D, write /pipes/blobs/D/by/presence/2
//!           somebody here does      nothing: it is counted
//! dropped   the last one            10 s later the name goes, if nobody came
//! another life begins               all that are used are named again
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipes_raft::{Compare, CompareOp, Op, Range, Store, Target, Txn};
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::blobs::naming::Naming;
use crate::error::Error;
use crate::key;
use crate::record::Owner;
use crate::seams::{Clock, Holders};

/// How long a name outlives its last use: the next run of the same line finds it there.
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Between two looks at what is used no more, while something is named.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often a name is tried that loses its race with collectors.
const TRIES: usize = 50;
/// The rest between two tries, and before the life is looked for anew.
const REST: Duration = Duration::from_millis(200);

/// The uses of this node. A cheap handle.
#[derive(Clone)]
pub struct Uses(Arc<Inner>);

struct Inner {
    store: Store,
    node: u64,
    holders: Box<dyn Holders>,
    clock: Box<dyn Clock>,
    named: Mutex<BTreeMap<String, Named>>,
    /// Something is named that was not.
    noted: Notify,
}

struct Named {
    count: usize,
    idle_since: Duration,
    /// The lease that its name hangs on, and the revision that wrote it.
    lease: i64,
    revision: i64,
}

/// As long as this lives the blob is named.
pub struct Used {
    uses: Uses,
    digest: String,
}

impl Uses {
    /// Of a node that uses nothing yet.
    pub fn new(store: Store, node: u64, holders: Box<dyn Holders>, clock: Box<dyn Clock>) -> Uses {
        Uses(Arc::new(Inner {
            store,
            node,
            holders,
            clock,
            named: Mutex::default(),
            noted: Notify::new(),
        }))
    }

    /// Names a blob, as long as what is returned lives.
    pub async fn uses(&self, digest: &str) -> Result<Used, Error> {
        if let Some(used) = self.again(digest) {
            return Ok(used);
        }
        for _ in 0..TRIES {
            let lease = self.life().await?.ok_or(Error::NotPresent)?;
            match self.name(digest, lease).await {
                Ok(Some(revision)) => return Ok(self.note(digest, lease, revision)),
                Ok(None) => {}
                // Perhaps it was written: that again changes nothing but when.
                Err(Error::Store(error)) if error.may_retry() || error == pipes_raft::Error::Unknown => {
                    debug!(digest, %error, "what is used is named once more");
                }
                Err(error) => return Err(error),
            }
            self.0.clock.sleep(REST).await;
        }
        Err(Error::BlobMissing(digest.to_owned()))
    }

    /// Takes names back that nobody needs, and gives those anew that a lease took along, for ever.
    pub async fn run(&self) {
        loop {
            if self.named().is_empty() {
                self.0.noted.notified().await;
            }
            self.0.clock.sleep(LOOK_EVERY).await;
            let looked = async {
                self.give_back().await?;
                self.name_again().await
            };
            if let Err(error) = looked.await {
                debug!(%error, "names of what is used are looked at again later");
            }
        }
    }

    /// It is used already, and named as far as is known.
    fn again(&self, digest: &str) -> Option<Used> {
        let mut named = self.named();
        named.get_mut(digest)?.count += 1;
        Some(self.used(digest))
    }

    fn note(&self, digest: &str, lease: i64, revision: i64) -> Used {
        let mut all = self.named();
        let named = all.entry(digest.to_owned()).or_insert(Named {
            count: 0,
            idle_since: Duration::ZERO,
            lease,
            revision,
        });
        named.count += 1;
        // Of two that named it at once the later counts.
        if revision > named.revision {
            (named.lease, named.revision) = (lease, revision);
        }
        self.0.noted.notify_one();
        self.used(digest)
    }

    fn used(&self, digest: &str) -> Used {
        Used {
            uses: self.clone(),
            digest: digest.to_owned(),
        }
    }

    /// The lease of this node's present life.
    async fn life(&self) -> Result<Option<i64>, Error> {
        let presence = self.0.store.get(key::presence(self.0.node)).await?;
        Ok(presence.map(|kv| kv.lease).filter(|lease| *lease != 0))
    }

    /// Writes the name; `None`: the blob was collected meanwhile, or this life is over.
    async fn name(&self, digest: &str, lease: i64) -> Result<Option<i64>, Error> {
        let Inner { store, holders, .. } = &*self.0;
        let naming = Naming::of(store, &**holders, &[digest.to_owned()]).await?;
        let owner = Owner {
            node: self.0.node,
            lease,
        };
        let mut compares = naming.compares();
        compares.push(owner.lives());
        let txn = Txn {
            compares,
            success: naming.names(&key::presence(self.0.node), Some(lease)),
            failure: Vec::new(),
        };
        let answer = store.txn(txn).await?;
        Ok(answer.succeeded.then_some(answer.revision))
    }

    /// Takes the names of what has not been used for a while.
    async fn give_back(&self) -> Result<(), Error> {
        let now = self.0.clock.monotonic();
        let is_idle = |named: &Named| named.count == 0 && named.idle_since + KEPT_FOR <= now;
        let idle: Vec<(String, Named)> = {
            let mut all = self.named();
            let idle = all.iter().filter(|(_, named)| is_idle(named));
            let idle: Vec<String> = idle.map(|(digest, _)| digest.clone()).collect();
            let taken = idle.into_iter().map(|digest| all.remove_entry(&digest));
            taken.flatten().collect()
        };
        for (digest, named) in idle {
            let key = key::blob_named_by(&digest, &key::presence(self.0.node));
            // Whoever uses it since has written it anew.
            let txn = Txn {
                compares: vec![Compare::key(
                    key.clone(),
                    CompareOp::Equal,
                    Target::Mod(named.revision),
                )],
                success: vec![Op::delete(key)],
                failure: Vec::new(),
            };
            if let Err(error) = self.0.store.txn(txn).await {
                // It is taken back at the next look.
                self.named().entry(digest).or_insert(named);
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Names what is used and hangs on the lease of a former life.
    async fn name_again(&self) -> Result<(), Error> {
        let here = Range::key(key::presence(self.0.node));
        let here = self
            .0
            .store
            .range(here, pipes_raft::Consistency::Serializable)
            .await?;
        let Some(lease) = here.kvs.first().map(|kv| kv.lease).filter(|lease| *lease != 0) else {
            return Ok(());
        };
        let former: Vec<String> = {
            let all = self.named();
            let former = all.iter().filter(|(_, named)| named.lease != lease);
            former.map(|(digest, _)| digest.clone()).collect()
        };
        for digest in former {
            match self.name(&digest, lease).await {
                Ok(Some(revision)) => {
                    let mut all = self.named();
                    let named = all.get_mut(&digest);
                    if let Some(named) = named.filter(|named| named.revision < revision) {
                        (named.lease, named.revision) = (lease, revision);
                    }
                }
                Ok(None) => {}
                Err(error) => warn!(digest, %error, "what is used here cannot be named"),
            }
        }
        Ok(())
    }

    fn named(&self) -> MutexGuard<'_, BTreeMap<String, Named>> {
        // Plain data: a panic elsewhere leaves it whole.
        self.0.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let now = self.uses.0.clock.monotonic();
        if let Some(named) = self.uses.named().get_mut(&self.digest) {
            named.count -= 1;
            named.idle_since = now;
        }
    }
}
