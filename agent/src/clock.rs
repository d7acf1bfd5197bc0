//! The clocks that those go by who are simulated elsewhere: this machine's, and the store's, by which ages are counted.

use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use pipes_job::seams::Clock;
use pipes_raft::Store;

/// The clocks of an agent.
pub struct Clocks<Age> {
    beginning: Instant,
    age_ms: Age,
}

/// They count from now, and ages by this store.
pub fn boxed(store: Store) -> Box<dyn Clock> {
    Clocks::boxed(move || store.now_ms())
}

impl<Age: Fn() -> u64 + Send + Sync + 'static> Clocks<Age> {
    /// They count from now, and ages as this says, in milliseconds.
    pub fn boxed(age_ms: Age) -> Box<dyn Clock> {
        Box::new(Clocks {
            beginning: Instant::now(),
            age_ms,
        })
    }
}

#[async_trait]
impl<Age: Fn() -> u64 + Send + Sync + 'static> Clock for Clocks<Age> {
    fn monotonic(&self) -> Duration {
        self.beginning.elapsed()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn age_ms(&self) -> u64 {
        (self.age_ms)()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
