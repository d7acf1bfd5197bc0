//! The store's jobs, as of the last entry that anybody has applied: read from the changes of the model, in their order.

use std::collections::BTreeMap;

use pipes_job::key;
use pipes_job::record::{Done, Open, OpenState, Owner, decode};

use crate::model::{Change, Model};

/// Of finished jobs, those that go within so long are waited for at the end, in milliseconds.
const SOON_MS: u64 = 60_000;

/// All keys of Pipes lie between these.
const BEGIN: &[u8] = b"/pipes/";
const END: &[u8] = b"/pipes0";

/// An attempt that is or was on record.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Whose it is.
    pub owner: Owner,
    /// Since which revision its record is not the job's any more.
    pub over: Option<i64>,
}

/// A job.
#[derive(Debug, Clone, Default)]
pub struct Job {
    /// Its workflow.
    pub workflow: String,
    /// Its open record, while it has one.
    pub open: Option<Open>,
    /// The last one, and the revision that removed it.
    pub closed: Option<(Open, i64)>,
    /// Its finished record, while it has one.
    pub done: Option<Done>,
    /// How often one was written.
    pub ends: u64,
    /// Its attempts on record.
    pub attempts: BTreeMap<u32, Attempt>,
}

/// What a change was.
#[derive(Debug)]
pub enum Seen {
    /// An open record was written.
    Opened {
        /// Whose.
        id: String,
        /// What it was.
        before: Option<Open>,
        /// What it is.
        after: Open,
    },
    /// A finished record was written.
    Ended {
        /// Whose.
        id: String,
        /// The last open record.
        last: Option<Open>,
        /// The record.
        done: Box<Done>,
    },
    /// Anything else.
    Nothing,
}

/// The jobs.
#[derive(Debug, Default)]
pub struct Records {
    position: usize,
    /// The nodes that are present, each with the lease of its life.
    pub presences: BTreeMap<u64, i64>,
    /// The jobs that ever were.
    pub jobs: BTreeMap<String, Job>,
    /// Counts for a summary.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Records {
    /// The next change that was not taken yet.
    pub fn next(&mut self, model: &Model) -> Option<Change> {
        let (change, position) = model.next_change(BEGIN, END, self.position);
        self.position = position;
        change.cloned()
    }

    /// Takes a change.
    pub fn take(&mut self, change: &Change) -> Seen {
        if let Some(node) = key::read_presence(&change.key) {
            match change.value {
                Some(_) => self.presences.insert(node, change.lease),
                None => self.presences.remove(&node),
            };
            return Seen::Nothing;
        }
        let Some((workflow, id)) = key::read_job(&change.key) else {
            return Seen::Nothing;
        };
        let is_open = key::open(workflow, id) == change.key;
        let job = self.jobs.entry(id.to_owned()).or_default();
        workflow.clone_into(&mut job.workflow);
        let id = id.to_owned();
        match (&change.value, is_open) {
            (Some(value), true) => {
                let Some(after) = decode::<Open>(value) else {
                    return Seen::Nothing;
                };
                let before = job.open.replace(after.clone());
                job.note(&after, change.revision);
                self.count(before.as_ref(), &after);
                Seen::Opened { id, before, after }
            }
            (None, true) => {
                job.closed = job.open.take().map(|open| (open, change.revision));
                job.end_attempts(change.revision);
                Seen::Nothing
            }
            (Some(value), false) => {
                let Some(done) = decode::<Done>(value) else {
                    return Seen::Nothing;
                };
                job.done = Some(done.clone());
                job.ends += 1;
                *self.counts.entry("jobs ended").or_default() += 1;
                let last = job.closed.as_ref().map(|(open, _)| open.clone());
                let done = Box::new(done);
                Seen::Ended { id, last, done }
            }
            (None, false) => {
                job.done = None;
                *self.counts.entry("jobs forgotten").or_default() += 1;
                Seen::Nothing
            }
        }
    }

    fn count(&mut self, before: Option<&Open>, after: &Open) {
        let Some(before) = before else { return };
        let mut count = |what| *self.counts.entry(what).or_default() += 1;
        if after.owner != before.owner {
            count(match (before.owner, after.owner) {
                (_, None) => "jobs handed over",
                (None, _) => "jobs taken that were handed over",
                (Some(_), Some(_)) => "jobs taken over",
            });
        }
        if after.attempt > 1 && after.attempt > before.attempt {
            count("attempts after the first");
        }
        if after.losses > before.losses {
            count("losses");
        }
    }

    /// Whether no job is open, and none that is over is to be forgotten soon.
    pub fn are_over(&self, now_ms: u64) -> bool {
        self.jobs.values().all(|job| {
            let is_kept = |done: &Done| done.expires > now_ms + SOON_MS;
            job.open.is_none() && job.done.as_ref().is_none_or(is_kept)
        })
    }

    /// The jobs that are open.
    pub fn open(&self) -> String {
        let open = self
            .jobs
            .iter()
            .filter_map(|(id, job)| Some((id, job.open.as_ref()?)));
        open.take(5)
            .map(|(id, open)| format!("{id} {open:?}; "))
            .collect()
    }
}

impl Job {
    fn note(&mut self, after: &Open, revision: i64) {
        let current = (after.state == OpenState::Running).then_some((after.attempt, after.owner));
        for (number, attempt) in &mut self.attempts {
            if current != Some((*number, Some(attempt.owner))) {
                attempt.over.get_or_insert(revision);
            }
        }
        if let Some((number, Some(owner))) = current {
            self.attempts
                .entry(number)
                .or_insert(Attempt { owner, over: None });
        }
    }

    fn end_attempts(&mut self, revision: i64) {
        for attempt in self.attempts.values_mut() {
            attempt.over.get_or_insert(revision);
        }
    }
}
