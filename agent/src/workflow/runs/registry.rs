//! The runs that this agent coordinates: who they are, for `ps`, and how to stop or wake them.
//!
//! A run's entry lives as long as its `Guard`, which goes when the record of how it ended is in the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::workflow::runs::view::Run;

/// Runs that may wait or run here at once, those included whose end is not on record yet; beyond, a run is refused as
/// busy.
pub const RUNS_MAX: usize = 1_000 + 32 * 64;

/// Notices that may wait for a run; one more is dropped.
const NOTICES_MAX: usize = 4;

/// What others may say to a run.
#[derive(Debug, Clone, Copy)]
pub enum Notice {
    /// End it: SIGTERM, and SIGKILL after the grace.
    Stop {
        /// Time for the stages to end by themselves.
        grace: Duration,
    },
    /// There are slots for it, or it is to ask for them in turn.
    Freed,
}

/// The runs of this agent. A cheap handle.
#[derive(Clone, Default)]
pub struct Registry {
    runs: Arc<Mutex<BTreeMap<String, Entry>>>,
}

struct Entry {
    run: Run,
    /// Shown as what it is an attempt of, a job, and not among the runs.
    is_of_job: bool,
    notices: mpsc::Sender<Notice>,
}

/// A run's place in the registry; leaves with it.
pub struct Guard {
    registry: Registry,
    id: String,
}

impl Registry {
    /// Enters a run, as an attempt of a job or by itself; `None` when there are too many.
    pub fn enter(&self, run: Run, is_of_job: bool) -> Option<(Guard, mpsc::Receiver<Notice>)> {
        let (notices, receiver) = mpsc::channel(NOTICES_MAX);
        let mut runs = self.lock();
        if runs.len() >= RUNS_MAX {
            return None;
        }
        let id = run.id.clone();
        let entry = Entry {
            run,
            is_of_job,
            notices,
        };
        runs.insert(id.clone(), entry);
        Some((
            Guard {
                registry: self.clone(),
                id,
            },
            receiver,
        ))
    }

    /// All runs but those of jobs, oldest first.
    pub fn list(&self) -> Vec<Run> {
        let runs = self.lock();
        let listed = runs.values().filter(|entry| !entry.is_of_job);
        listed.map(|entry| entry.run.clone()).collect()
    }

    /// Whether a run is under way here, or its end not on record yet.
    pub fn knows(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    /// Passes a notice on to a run, if there is one of that id.
    pub fn notify(&self, id: &str, notice: Notice) {
        if let Some(entry) = self.lock().get(id) {
            // One that has so many waiting needs no more of them.
            let _ = entry.notices.try_send(notice);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Plain data: a panic elsewhere leaves it whole.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    /// Shows how far the run has come.
    pub fn update(&self, run: Run) {
        if let Some(entry) = self.registry.lock().get_mut(&self.id) {
            entry.run = run;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.id);
    }
}
