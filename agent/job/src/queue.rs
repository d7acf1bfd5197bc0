//! The jobs that this agent owns: which is next. Pure.
//!
//! ```text
//! words   waiting j3 j4 j5   later j1 (at 12.5 s)   running 2 of 16
//! sums    waiting j9         later                  running 0 of 4      <- its turn
//! ```
//!
//! Always: (1) jobs of a workflow begin in the order in which they came; (2) workflows take turns; (3) a job that may have
//! ended servers runs alone, and while it waits for that no other begins; (4) no more run than their workflow's terms say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::claim::Job;
use crate::state::Terms;

/// Attempts at once on one agent, of all workflows together: each has a session and a run of its own. Further jobs wait.
const RUNNING_MAX: usize = 512;

/// The jobs of one agent.
#[derive(Debug, Default)]
pub struct Queue {
    lines: BTreeMap<String, Line>,
    /// The workflow whose turn was last.
    last: String,
    /// Tells jobs apart that are due at the same time.
    count: u64,
}

/// The jobs of one workflow.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Job>,
    later: BTreeMap<(Duration, u64), Job>,
    /// By ID and attempt.
    running: BTreeMap<(String, u32), Running>,
}

/// An attempt that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its job, as its owner last read it.
    pub job: Job,
    /// When it began, by the monotonic clock.
    pub since: Duration,
}

impl Line {
    fn len(&self) -> usize {
        self.waiting.len() + self.later.len() + self.running.len()
    }
}

impl Queue {
    /// A job came; one that waits here already is not queued twice.
    pub fn push(&mut self, job: Job) {
        let line = self.lines.entry(job.workflow.clone()).or_default();
        if !line.later.values().any(|later| later.id == job.id) {
            line.waiting.push_back(job);
        }
    }

    /// Lets go of those that wait in lines that do not run, of which `is_gone` says that their records are.
    pub fn forget_gone(&mut self, terms: impl Fn(&str) -> Option<Terms>, is_gone: impl Fn(&str) -> bool) {
        for (name, line) in &mut self.lines {
            if terms(name).is_none_or(|terms| !terms.is_running) {
                line.waiting.retain(|job| !is_gone(&job.id));
                line.later.retain(|_, job| !is_gone(&job.id));
            }
        }
        self.lines.retain(|_, line| line.len() > 0);
    }

    /// A job is to be tried again at a time.
    pub fn push_later(&mut self, job: Job, at: Duration) {
        self.count += 1;
        let line = self.lines.entry(job.workflow.clone()).or_default();
        line.later.insert((at, self.count), job);
    }

    /// Jobs of a workflow that are here.
    pub fn owned(&self, workflow: &str) -> usize {
        self.lines.get(workflow).map_or(0, Line::len)
    }

    /// The next job that may begin; it counts as running from now on, as the attempt after its last.
    pub fn next(&mut self, now: Duration, terms: impl Fn(&str) -> Option<Terms>) -> Option<Job> {
        self.wake(now);
        let running = self.running().count();
        let is_alone = self.running().any(|running| running.job.open.is_alone());
        let wants_alone = |(name, line): (&String, &Line)| {
            let is_first = line.waiting.front().is_some_and(|job| job.open.is_alone());
            is_first && terms(name).is_some_and(|terms| terms.is_running)
        };
        if running >= RUNNING_MAX || is_alone || (running > 0 && self.lines.iter().any(wants_alone)) {
            return None;
        }
        loop {
            let name = self.turn(&terms)?;
            let line = self.lines.get_mut(&name)?;
            let job = line.waiting.pop_front()?;
            let attempt = (job.id.clone(), job.open.attempt + 1);
            // One that came twice, since an answer was lost, begins once.
            if line.running.contains_key(&attempt) {
                continue;
            }
            let began = Running {
                job: job.clone(),
                since: now,
            };
            line.running.insert(attempt, began);
            self.last = name;
            return Some(job);
        }
    }

    /// The workflow whose turn it is, of those that have a job that may begin.
    fn turn(&self, terms: &impl Fn(&str) -> Option<Terms>) -> Option<String> {
        let after = self
            .lines
            .range(self.last.clone()..)
            .skip_while(|(name, _)| **name == self.last);
        let mut order = after.chain(self.lines.range(..=self.last.clone()));
        let may_begin = |name: &str, line: &Line| {
            let terms = terms(name).filter(|terms| terms.is_running);
            !line.waiting.is_empty() && terms.is_some_and(|terms| line.running.len() < terms.at_once)
        };
        let (name, _) = order.find(|(name, line)| may_begin(name, line))?;
        Some(name.clone())
    }

    /// Whether a job is here.
    pub fn knows(&self, job: &Job) -> bool {
        self.lines.get(&job.workflow).is_some_and(|line| {
            let running = line.running.values().map(|running| &running.job);
            let mut jobs = line.waiting.iter().chain(line.later.values()).chain(running);
            jobs.any(|other| other.id == job.id)
        })
    }

    /// The IDs of all jobs that are here.
    pub fn known(&self) -> BTreeSet<String> {
        let of_line = |line: &Line| {
            let running = line.running.values().map(|running| &running.job);
            let jobs = line.waiting.iter().chain(line.later.values()).chain(running);
            jobs.map(|job| job.id.clone()).collect::<Vec<_>>()
        };
        self.lines.values().flat_map(of_line).collect()
    }

    /// Those that are due stand before those that wait.
    fn wake(&mut self, now: Duration) {
        for line in self.lines.values_mut() {
            let later = line.later.split_off(&(now, u64::MAX));
            for (_, job) in std::mem::replace(&mut line.later, later).into_iter().rev() {
                line.waiting.push_front(job);
            }
        }
    }

    /// When the next job is due.
    pub fn due(&self) -> Option<Duration> {
        let first = |line: &Line| line.later.keys().next().map(|(at, _)| *at);
        self.lines.values().filter_map(first).min()
    }

    /// An attempt's record was written or read anew.
    pub fn note(&mut self, job: &Job) {
        let line = self.lines.get_mut(&job.workflow);
        let running = line.and_then(|line| line.running.get_mut(&(job.id.clone(), job.open.attempt)));
        if let Some(running) = running {
            running.job = job.clone();
        }
    }

    /// An attempt is over.
    pub fn ended(&mut self, workflow: &str, id: &str, attempt: u32) {
        if let Some(line) = self.lines.get_mut(workflow) {
            line.running.remove(&(id.to_owned(), attempt));
            if line.len() == 0 {
                self.lines.remove(workflow);
            }
        }
    }

    /// All attempts that are under way.
    pub fn running(&self) -> impl Iterator<Item = &Running> {
        self.lines.values().flat_map(|line| line.running.values())
    }

    /// This agent's life is over and another has begun: what waited is nobody's now.
    pub fn forget_waiting(&mut self) {
        for line in self.lines.values_mut() {
            line.waiting.clear();
            line.later.clear();
        }
        self.lines.retain(|_, line| line.len() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Content, Open};

    fn job(workflow: &str, id: &str) -> Job {
        let open = Open::accepted(
            None,
            0,
            Content {
                bytes: 0,
                sha256: String::new(),
                blob: false,
            },
        );
        Job {
            id: id.into(),
            workflow: workflow.into(),
            open,
            revision: 1,
        }
    }

    fn terms(at_once: usize) -> impl Fn(&str) -> Option<Terms> {
        move |name| {
            Some(Terms {
                is_running: name != "stopped",
                definition: 1,
                at_once,
                retries: 0,
                timeout: None,
                keep: Duration::ZERO,
                grace: Duration::ZERO,
            })
        }
    }

    fn drain(queue: &mut Queue, now: u64, at_once: usize) -> Vec<String> {
        let next = || {
            queue
                .next(Duration::from_secs(now), terms(at_once))
                .map(|job| job.id)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn workflows_take_turns_and_each_keeps_its_order() {
        let mut queue = Queue::default();
        for id in ["a1", "a2", "a3"] {
            queue.push(job("a", id));
        }
        queue.push(job("b", "b1"));
        queue.push(job("stopped", "s1"));
        assert_eq!(drain(&mut queue, 0, 2), ["a1", "b1", "a2"]);
        assert_eq!((queue.owned("a"), queue.owned("stopped")), (3, 1));
        queue.ended("a", "a1", 1);
        assert_eq!(drain(&mut queue, 0, 2), ["a3"]);
    }

    #[test]
    fn a_job_that_rests_is_first_when_it_is_due() {
        let mut queue = Queue::default();
        queue.push_later(job("a", "late"), Duration::from_secs(5));
        queue.push_later(job("a", "later"), Duration::from_secs(6));
        queue.push(job("a", "new"));
        assert_eq!(queue.due(), Some(Duration::from_secs(5)));
        assert_eq!(drain(&mut queue, 4, 1), ["new"]);
        queue.push(job("a", "newer"));
        queue.ended("a", "new", 1);
        assert_eq!(drain(&mut queue, 6, 9), ["late", "later", "newer"]);
        assert_eq!(queue.due(), None);
    }

    #[test]
    fn a_job_that_ended_servers_runs_with_no_other() {
        let mut queue = Queue::default();
        let mut alone = job("a", "alone");
        alone.open.losses = 2;
        queue.push(job("a", "a1"));
        queue.push(alone);
        queue.push(job("b", "b1"));
        assert_eq!(drain(&mut queue, 0, 9), ["a1"]);
        queue.ended("a", "a1", 1);
        // Its workflow's turn comes after b's, and b's begins no more while it waits.
        let first = drain(&mut queue, 0, 9);
        let (workflow, id) = if first == ["b1"] {
            ("b", "b1")
        } else {
            ("a", "alone")
        };
        queue.ended(workflow, id, 1);
        let second = drain(&mut queue, 0, 9);
        assert_eq!([first, second].concat().len(), 2);
    }

    #[test]
    fn a_job_of_a_stopped_workflow_keeps_nobody_waiting_and_goes_once_its_record_is_gone() {
        let mut queue = Queue::default();
        let mut alone = job("stopped", "alone");
        alone.open.losses = 2;
        queue.push(alone);
        for id in ["a1", "a2"] {
            queue.push(job("a", id));
        }
        queue.forget_gone(terms(1), |id| id == "a1");
        assert_eq!(drain(&mut queue, 0, 9), ["a1", "a2"]);
        queue.forget_gone(terms(1), |id| id == "alone");
        assert_eq!(queue.owned("stopped"), 0);
    }

    #[test]
    fn a_job_that_came_twice_begins_once() {
        let mut queue = Queue::default();
        queue.push(job("a", "a1"));
        queue.push(job("a", "a1"));
        queue.push(job("b", "b1"));
        assert_eq!(drain(&mut queue, 0, 9), ["a1", "b1"]);
        assert_eq!(queue.known(), BTreeSet::from(["a1".into(), "b1".into()]));
    }

    #[test]
    fn what_waited_is_forgotten_with_a_life_and_what_runs_is_not() {
        let mut queue = Queue::default();
        queue.push(job("a", "a1"));
        queue.push(job("a", "a2"));
        assert_eq!(drain(&mut queue, 0, 1), ["a1"]);
        queue.forget_waiting();
        assert_eq!((queue.owned("a"), queue.running().count()), (1, 1));
    }
}
