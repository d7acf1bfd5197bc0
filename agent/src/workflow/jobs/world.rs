//! Holders of blobs, clocks and chance, as they are on a server.

use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use pipes_job::seams::{Chance, Clock, Holders};
use pipes_raft::Store;

use crate::blob::Blobs;

/// The voters, each of which keeps every blob that is named.
pub(super) struct Voters(pub(super) Blobs);

#[async_trait]
impl Holders for Voters {
    async fn has(&self, digest: &str) -> bool {
        match digest.parse() {
            Ok(digest) => self.0.is_kept(&digest).await,
            Err(_) => false,
        }
    }
}

/// The clocks of this machine, and the store's, by which ages are counted.
pub(super) struct Clocks {
    beginning: Instant,
    store: Store,
}

impl Clocks {
    pub(super) fn new(store: Store) -> Clocks {
        Clocks {
            beginning: Instant::now(),
            store,
        }
    }
}

#[async_trait]
impl Clock for Clocks {
    fn monotonic(&self) -> Duration {
        self.beginning.elapsed()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn age_ms(&self) -> u64 {
        self.store.now_ms()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Chance of the operating system.
pub(super) struct Random;

impl Chance for Random {
    fn bits(&self) -> u128 {
        rand::random()
    }
}

#[cfg(test)]
mod tests {
    use crate::keys;

    #[test]
    fn both_crates_call_keys_alike() {
        use pipes_job::key;
        assert_eq!(key::presence(3), keys::presence(3));
        assert_eq!(key::presences(), keys::presences());
        assert_eq!(key::workflow("words"), keys::workflow("words"));
        let digest = format!("sha256:ab{}", "0".repeat(62));
        assert_eq!(key::blob_gone(&digest), keys::blob_gone(&digest));
        assert_eq!(key::blob_generation(&digest), keys::blob_generation(0xab));
        let by = key::input("j1");
        assert_eq!(
            key::blob_named_by(&digest, &by),
            keys::blob_named_by(&digest, &by)
        );
    }
}
