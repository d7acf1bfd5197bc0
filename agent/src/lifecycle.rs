//! Kinds of tasks: what each does when it is told to stop, and what its error means.
//!
//! | kind | is | told to stop | its error, or a panic in it |
//! |---|---|---|---|
//! | `Part` | a loop that lives as long as the agent | returns | is told to the agent, which stops: it cannot serve without it |
//! | `Connection` | one peer's or client's | returns, its peer sees the end | is logged, ends it alone |
//! | `Work` | something with an end of its own | finishes soon, or returns | is logged, ends it alone |
//!
//! Every task is spawned here, is stopped by the token and awaited by the tracker; nothing is aborted. Stopping has a
//! deadline: what has not ended by then is named in the log and left to the end of the process.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

/// What a task is, which says what its end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lives as long as the agent; its error stops the agent.
    Part,
    /// One peer or client; its error ends it alone.
    Connection,
    /// Has an end of its own; its error ends it alone.
    Work,
}

/// Spawns tasks, stops them and awaits them. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    token: CancellationToken,
    tracker: TaskTracker,
    failed: CancellationToken,
    again: CancellationToken,
    failure: Arc<Mutex<Option<String>>>,
}

impl Lifecycle {
    /// One with no task yet.
    pub fn new() -> Lifecycle {
        Lifecycle::default()
    }

    /// Another, whose tasks are stopped and awaited apart from this one's; a part's failure in either is told by both.
    pub fn beside(&self) -> Lifecycle {
        Lifecycle {
            failed: self.failed.clone(),
            again: self.again.clone(),
            failure: Arc::clone(&self.failure),
            ..Lifecycle::default()
        }
    }

    /// Spawns a task on the runtime this is called on.
    pub fn spawn<F>(&self, kind: Kind, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.spawn_on(&Handle::current(), kind, name, task)
    }

    /// Spawns a part that has no end of its own: it is dropped when everything is to stop.
    pub fn spawn_until_stop<F>(&self, name: &'static str, part: F) -> JoinHandle<()>
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stopping = self.stopping();
        self.spawn(Kind::Part, name, async move {
            stopping.run_until_cancelled(part).await.unwrap_or(Ok(()))
        })
    }

    /// Spawns a task on another runtime: the store's, for what must not wait behind streams.
    pub fn spawn_on<F>(&self, runtime: &Handle, kind: Kind, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let lifecycle = self.clone();
        self.tracker.spawn_on(
            async move {
                let ended = std::panic::AssertUnwindSafe(task).catch_unwind().await;
                let why = match ended {
                    Ok(Ok(())) if kind == Kind::Part && !lifecycle.token.is_cancelled() => {
                        "it ended by itself".to_owned()
                    }
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(_) => "it panicked".to_owned(),
                };
                lifecycle.ended_badly(kind, name, why);
            },
            runtime,
        )
    }

    fn ended_badly(&self, kind: Kind, name: &'static str, why: String) {
        if self.token.is_cancelled() {
            debug!(task = name, why, "ended while stopping");
            return;
        }
        match kind {
            Kind::Part => {
                error!(task = name, why, "a part of the agent failed");
                // The lock guards plain data; where another holder panicked, the data still is whole.
                let mut failure = self
                    .failure
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
                failure.get_or_insert(format!("{name}: {why}"));
                drop(failure);
                self.failed.cancel();
            }
            Kind::Connection => debug!(task = name, why, "connection ended"),
            Kind::Work => warn!(task = name, why, "failed"),
        }
    }

    /// Cancelled when everything is to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Ends when a part has failed: the agent is to stop.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Has the agent stop in order, and start again in the same process.
    pub fn start_again(&self) {
        self.again.cancel();
    }

    /// Ends when the agent is to start again.
    pub async fn starts_again(&self) {
        self.again.cancelled().await;
    }

    /// Whether the agent is to start again.
    pub fn is_to_start_again(&self) -> bool {
        self.again.is_cancelled()
    }

    /// Which part failed first, and why.
    pub fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// Tells all tasks to stop and waits until they have; `false` when some had not by the deadline.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        let all_ended = tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok();
        if !all_ended {
            warn!(
                tasks = self.tracker.len(),
                ?deadline,
                "tasks have not ended in time"
            );
        }
        all_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_fails_is_told_and_named() {
        let lifecycle = Lifecycle::new();
        lifecycle
            .beside()
            .spawn(Kind::Part, "store", async { anyhow::bail!("disk full") });
        lifecycle.failed().await;
        assert_eq!(lifecycle.failure().as_deref(), Some("store: disk full"));
    }

    #[tokio::test]
    async fn a_connection_that_fails_or_panics_ends_alone() {
        let lifecycle = Lifecycle::new();
        lifecycle
            .spawn(Kind::Connection, "peer", async { anyhow::bail!("gone") })
            .await
            .unwrap();
        lifecycle
            .spawn(Kind::Connection, "peer", async { panic!("bug") })
            .await
            .unwrap();
        assert!(lifecycle.stop(Duration::from_secs(1)).await);
        assert_eq!(lifecycle.failure(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_waits_no_longer_than_its_deadline() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn(Kind::Work, "deaf", std::future::pending());
        assert!(!lifecycle.stop(Duration::from_secs(5)).await);
    }
}
