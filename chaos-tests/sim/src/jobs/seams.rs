//! What jobs need of the world, as a seed has it: clocks of the host, chance, holders of blobs, what workflows say.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use pipes_job::seams::{Chance as Bits, Changes, Clock, Holders, Workflows};
use pipes_job::state::Terms;
use pipes_sim_seam::Chance;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::book::Shared;

/// When the world begins, for people: 30 November 2025.
const BEGINNING_MS: u64 = 1_764_500_000_000;

/// A host's clocks: one that runs at its own rate, one that is set wrong, and the age that is alike on all.
pub(super) struct Clocks {
    pub(super) beginning: Instant,
    pub(super) shared: Shared,
    /// What its wall clock is ahead.
    pub(super) ahead_ms: u64,
}

#[async_trait]
impl Clock for Clocks {
    fn monotonic(&self) -> Duration {
        self.beginning.elapsed()
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(BEGINNING_MS + self.ahead_ms + self.shared.lock().now_ms)
    }

    fn age_ms(&self) -> u64 {
        self.shared.lock().now_ms
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }
}

/// Numbers of a seed.
pub(super) struct Drawn(pub(super) Mutex<Chance>);

impl Bits for Drawn {
    fn bits(&self) -> u128 {
        let mut chance = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        u128::from(chance.any()) << 64 | u128::from(chance.any())
    }
}

/// Holders that have each blob that was put, but for a moment now and then.
pub(super) struct Kept {
    pub(super) shared: Shared,
    pub(super) chance: Mutex<Chance>,
}

#[async_trait]
impl Holders for Kept {
    async fn has(&self, digest: &str) -> bool {
        let is_asked = {
            let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
            chance.is(950)
        };
        let sha256 = digest.trim_start_matches("sha256:");
        is_asked && self.shared.lock().ledger.blobs.contains_key(sha256)
    }

    async fn sync(&self, digest: &str) -> bool {
        self.has(digest).await
    }

    async fn fetch(&self, digest: &str) -> bool {
        self.has(digest).await
    }

    async fn is_awaited(&self, _: &str) -> bool {
        true
    }

    // Nobody collects in this world.
    async fn delete(&self, _: &str) {}
}

/// What the workflows say now.
pub(super) struct Wishes(pub(super) watch::Receiver<BTreeMap<String, Terms>>);

impl Workflows for Wishes {
    fn terms(&self, workflow: &str) -> Option<Terms> {
        self.0.borrow().get(workflow).cloned()
    }

    fn changes(&self) -> Box<dyn Changes> {
        Box::new(Changed(self.0.clone()))
    }
}

struct Changed(watch::Receiver<BTreeMap<String, Terms>>);

#[async_trait]
impl Changes for Changed {
    async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The world has ended.
            std::future::pending().await
        }
    }
}
