//! The runs that this agent coordinates: who they are, for `ps`, and how to stop or wake them.
//!
//! A run's entry lives as long as its `Guard`, which goes when the record of how it ended is in the store.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::listing::Page;
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
    runs: Arc<Mutex<Runs>>,
}

#[derive(Default)]
struct Runs {
    by_id: BTreeMap<String, Entry>,
    /// Which run is a job's attempt.
    by_job: BTreeMap<String, String>,
}

struct Entry {
    run: Run,
    /// Shown as what it is an attempt of, and not among the runs.
    job: Option<String>,
    notices: mpsc::Sender<Notice>,
}

/// A run's place in the registry; leaves with it.
pub struct Guard {
    registry: Registry,
    id: String,
}

impl Registry {
    /// Enters a run, as an attempt of a job or by itself; `None` when there are too many.
    pub fn enter(&self, run: Run, job: Option<&str>) -> Option<(Guard, mpsc::Receiver<Notice>)> {
        let (notices, receiver) = mpsc::channel(NOTICES_MAX);
        let mut runs = self.lock();
        if runs.by_id.len() >= RUNS_MAX {
            return None;
        }
        let id = run.id.clone();
        let job = job.map(str::to_owned);
        if let Some(job) = &job {
            runs.by_job.insert(job.clone(), id.clone());
        }
        runs.by_id.insert(id.clone(), Entry { run, job, notices });
        Some((
            Guard {
                registry: self.clone(),
                id,
            },
            receiver,
        ))
    }

    /// A page of all runs but those of jobs, oldest first, whose ids begin so.
    pub fn page(&self, begin: &str, after: Option<&str>) -> Page<Run> {
        let runs = self.lock();
        let from = match after {
            Some(after) if after >= begin => Bound::Excluded(after),
            _ => Bound::Included(begin),
        };
        let further = runs.by_id.range::<str, _>((from, Bound::Unbounded));
        let listed = further
            .take_while(|(id, _)| id.starts_with(begin))
            .filter(|(_, entry)| entry.job.is_none())
            .map(|(id, entry)| (id.clone(), &entry.run));
        Page::of(listed, after).map(Run::clone)
    }

    /// The attempt of a job that is under way here.
    pub fn of_job(&self, job: &str) -> Option<Run> {
        let runs = self.lock();
        let entry = runs.by_id.get(runs.by_job.get(job)?)?;
        Some(entry.run.clone())
    }

    /// Whether a run is under way here, or its end not on record yet.
    pub fn knows(&self, id: &str) -> bool {
        self.lock().by_id.contains_key(id)
    }

    /// Passes a notice on to a run, if there is one of that id.
    pub fn notify(&self, id: &str, notice: Notice) {
        if let Some(entry) = self.lock().by_id.get(id) {
            // One that has so many waiting needs no more of them.
            let _ = entry.notices.try_send(notice);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        // Plain data: a panic elsewhere leaves it whole.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    /// Shows how far the run has come.
    pub fn update(&self, run: Run) {
        if let Some(entry) = self.registry.lock().by_id.get_mut(&self.id) {
            entry.run = run;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut runs = self.registry.lock();
        let job = runs.by_id.remove(&self.id).and_then(|entry| entry.job);
        // The next attempt may have entered already.
        if let Some(job) = job
            && runs.by_job.get(&job) == Some(&self.id)
        {
            runs.by_job.remove(&job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str) -> Run {
        Run {
            id: id.into(),
            ..Run::default()
        }
    }

    fn ids(page: Page<Run>) -> Vec<String> {
        page.objects.into_iter().map(|run| run.id).collect()
    }

    #[test]
    fn runs_are_told_page_by_page_from_where_they_begin_so() {
        let registry = Registry::default();
        let guards: Vec<_> = ["r1a", "r1b", "r1c", "r2"]
            .map(|id| {
                let run = Run {
                    line: "x".repeat(600_000),
                    ..run(id)
                };
                registry.enter(run, None).unwrap()
            })
            .into();
        let page = |begin, after| {
            let page = registry.page(begin, after);
            (page.next.clone(), ids(page))
        };
        assert_eq!(page("", None), (Some("r1a".into()), vec!["r1a".into()]));
        assert_eq!(page("r1", Some("r1b")), (None, vec!["r1c".into()]));
        assert_eq!(page("r2", Some("r1")), (None, vec!["r2".into()]));
        assert_eq!(page("r1", Some("r3")), (None, vec![]));
        drop(guards);
    }

    #[test]
    fn a_jobs_attempt_is_found_by_the_job_and_is_none_of_the_runs() {
        let registry = Registry::default();
        let (_own, _) = registry.enter(run("r1"), None).unwrap();
        let (first, _) = registry.enter(run("r2"), Some("j1")).unwrap();
        assert_eq!(ids(registry.page("", None)), ["r1"]);
        let (_second, _) = registry.enter(run("r3"), Some("j1")).unwrap();
        drop(first);
        assert_eq!(registry.of_job("j1").unwrap().id, "r3", "the next attempt");
        assert!(registry.of_job("j2").is_none() && !registry.knows("r2"));
    }
}
