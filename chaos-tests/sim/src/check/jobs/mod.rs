//! What must hold of jobs, one file each: looked at with every change that the store applies, and after every step.
//!
//! ```text
//! records.rs    the store's jobs as of the last entry that anybody has applied
//! attempts.rs   each (job, attempt) begins at most once, on its record, in a life that lasts
//! takeovers.rs  nobody takes a job whose owner's presence hangs on the lease of its life
//! results.rs    one result, of the attempt that its record names, with the right bytes; no job that was answered is lost
//! cancelled.rs  what was cancelled stays so
//! running.rs    no attempt runs on for long where its job is another's, or where no voter answers
//! keyed.rs      one key is one job
//! at_end.rs     nothing is left: of attempts, open jobs and keys, and every listing says the same
//! ```

mod at_end;
mod attempts;
mod cancelled;
mod keyed;
mod records;
mod results;
mod running;
mod takeovers;

use std::collections::BTreeMap;

use pipes_job::Found;
use pipes_raft::sim::{Deed, Event};

use crate::history::History;
use records::{Records, Seen};

/// All checks of jobs with what they remember.
#[derive(Default)]
pub struct Jobs {
    records: Records,
    /// The revision that each host's store has applied.
    applied: BTreeMap<String, i64>,
    drift_max: u64,
}

impl Jobs {
    /// Clocks run up to `drift_max` parts of a thousand fast or slow.
    pub fn new(drift_max: u64) -> Jobs {
        Jobs {
            drift_max,
            ..Jobs::default()
        }
    }

    /// Looks at what a store did, once the model has done it.
    pub fn take(&mut self, event: &Event, history: &mut History) {
        if let Deed::Applied { revision, .. } | Deed::StateSet { revision, .. } = &event.deed {
            self.applied.insert(event.host.clone(), *revision);
        }
        while let Some(change) = self.records.next(&history.model) {
            let seen = self.records.take(&change);
            let (records, revision) = (&self.records, change.revision);
            match &seen {
                Seen::Opened { id, before, after } => {
                    if before.is_none() {
                        keyed::opened(records, id, history);
                    }
                    takeovers::look(records, id, before.as_ref(), after, revision, history);
                    attempts::recorded(records, id, before.as_ref(), after, revision, history);
                    cancelled::opened(id, before.as_ref(), after, history);
                }
                Seen::Ended { id, last, done } => {
                    results::ended(records, id, done, revision, history);
                    cancelled::ended(id, last.as_ref(), done, history);
                }
                Seen::Nothing => {}
            }
        }
    }

    /// An attempt begins on a host.
    pub fn began(&self, host: usize, node: u64, id: &str, attempt: u32, history: &mut History) {
        attempts::began(&self.records, (host, node), (id, attempt), history);
    }

    /// A client was told of a job.
    pub fn accepted(&self, id: &str, history: &mut History) {
        results::accepted(&self.records, id, history);
    }

    /// A client was told that there is no such job, of which one was told before.
    pub fn is_forgotten(&self, id: &str, history: &mut History) {
        results::is_forgotten(&self.records, id, history);
    }

    /// A client was told that its key was used with other input than this, for that job.
    pub fn conflicts(&self, id: &str, input: &[u8], history: &mut History) {
        keyed::conflicts(&self.records, id, input, history);
    }

    /// A step is over.
    pub fn stepped(&self, history: &mut History) {
        running::stepped(&self.records, &self.applied, self.drift_max, history);
    }

    /// Whether any job is open, or any that is over is to be forgotten soon.
    pub fn are_over(&self, history: &History) -> bool {
        self.records.are_over(history.now_ms)
    }

    /// What is open, for whoever asks why it does not end.
    pub fn open(&self) -> String {
        self.records.open()
    }

    /// A whole listing, when all is over.
    pub fn listed(&self, host: &str, listed: &[Found], history: &mut History) {
        at_end::listed(&self.records, host, listed, history);
    }

    /// Nothing is wrong any more and every job is over.
    pub fn at_end(&self, history: &mut History) {
        at_end::look(&self.records, history);
    }

    /// Counts for a summary.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.records
            .counts
            .iter()
            .map(|(name, count)| (*name, *count))
            .collect()
    }
}
