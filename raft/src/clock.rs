//! The store's clock: by which ages are counted, the same at all nodes but for the time a message takes.
//!
//! Each log entry of a command carries the leader's reading when it was proposed, and the highest of all that were
//! applied is part of the state. Beyond it each node counts on with its own monotonic clock; a wall clock, which an
//! operator or NTP may set, is asked by nobody. Heartbeats and answers say what the sender reads, so that a node that
//! was just started, or has no replica, reads no less than those it hears from.
//!
//! ```text
//! leader    reads 5000   proposes put a (5000)                 reads 7000, heartbeat
//! follower               applies it: reads 5000, 5001, ...     hears 7000: reads 7000, if it read less
//! restarted              replays the log: reads 5000           hears 7000: reads 7000
//! ```
//!
//! Always: (1) a reading never goes back in the life of a node, nor below what is applied there, or was told to it;
//! (2) it goes on no faster than the fastest clock of a node that led; (3) a new leader reads no less than those
//! who elected it, but for the time that a message takes.
//!
//! While no node is up, no time passes; for one without a replica that is up alone it does.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// A node's reading of the store's clock.
#[derive(Debug)]
pub(crate) struct Clock {
    begun: Instant,
    /// What the clock read, or would have read, when this node began: it only rises.
    begun_at_ms: AtomicU64,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock {
            begun: Instant::now(),
            begun_at_ms: AtomicU64::new(0),
        }
    }
}

impl Clock {
    /// What it reads, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        let begun_at = self.begun_at_ms.load(Ordering::Relaxed);
        begun_at.saturating_add(self.elapsed_ms())
    }

    /// Takes note of a reading that is known to have passed.
    pub(crate) fn reach(&self, reading_ms: u64) {
        let begun_at = reading_ms.saturating_sub(self.elapsed_ms());
        self.begun_at_ms.fetch_max(begun_at, Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// One that began so long ago.
    fn begun(ago: Duration) -> Clock {
        Clock {
            begun: Instant::now() - ago,
            ..Clock::default()
        }
    }

    #[test]
    fn it_goes_on_by_itself_from_what_it_was_told_and_never_back() {
        let clock = begun(Duration::from_secs(3));
        let first = clock.now_ms();
        assert!((3000..4000).contains(&first), "{first}");
        clock.reach(5_000_000);
        let second = clock.now_ms();
        assert!((5_000_000..5_001_000).contains(&second), "{second}");
        clock.reach(4_000_000);
        assert!(clock.now_ms() >= second, "what is older says nothing");
        clock.reach(u64::MAX);
        assert!(clock.now_ms() >= u64::MAX - 1);
    }
}
