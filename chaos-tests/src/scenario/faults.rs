//! Faults, carried out on a running cluster.
//!
//! Always: a fault is over when this returns, but for a stepped clock; and what could not be done is not counted.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::plan::Fault;
use crate::cluster::{Cluster, START_LIMIT};
use crate::history::{Accepted, History};
use crate::http::{Connection, Request};
use crate::load::jobs::PORT;
use crate::proc;
use crate::wait::{let_pass, wait_until};

/// How long a snapshot is waited for before the agent is left alone: at hundreds of entries between two, one comes every
/// few seconds.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks for one: it takes some milliseconds.
const SNAPSHOT_LOOK: Duration = Duration::from_micros(200);
/// How long a job may take to run, or to run elsewhere.
const TAKEN_LIMIT: Duration = Duration::from_secs(25);
/// Within this an agent that goes on has heard that its attempt has ended.
const ENDS_WITHIN: Duration = Duration::from_millis(500);
/// How long a query of a late end may take to be answered.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What faults are carried out on.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Where they are noted.
    pub history: &'a History,
    /// A workflow whose stage, given a path and a newline, waits for a file there and says `done`.
    pub waiting: &'a str,
    /// A line `JOB ATTEMPT` of each attempt that a stage began.
    pub starts: &'a Path,
}

impl Target<'_> {
    /// Carries one out.
    pub fn carry_out(&self, fault: Fault) -> Result<()> {
        let cluster = self.cluster;
        match fault {
            Fault::Kill(node, time) => self.kill(fault, node, time),
            Fault::KillLeader(time) => match cluster.leader() {
                Ok(leader) => self.kill(fault, leader, time),
                Err(_) => Ok(()),
            },
            Fault::KillAll => {
                let begun = self.history.now();
                cluster.kill_all()?;
                self.note(fault);
                cluster.start_again()?;
                cluster.all_up(START_LIMIT)?;
                let gap = (begun, self.history.now());
                self.history.told().without_majority.push(gap);
                Ok(())
            }
            Fault::KillInSnapshot(node) => self.kill_in_snapshot(fault, node),
            Fault::Pause(node, time) => {
                cluster.pause(node)?;
                self.note(fault);
                let_pass(time);
                cluster.resume(node)
            }
            Fault::LateEnd(node) => self.late_end(fault, node),
            Fault::Cut(one, other, time) => {
                let cut = cluster.cut(one, other)?;
                self.note(fault);
                let_pass(time);
                cut.heal()
            }
            Fault::OneWay(from, to, time) => {
                let cut = cluster.cut_one_way(from, to)?;
                self.note(fault);
                let_pass(time);
                cut.heal()
            }
            Fault::Isolate(node, time) => {
                let cut = cluster.isolate(node)?;
                self.note(fault);
                let_pass(time);
                cut.heal()
            }
            Fault::StepClock(node, seconds) => {
                cluster.step_clock(node, seconds)?;
                self.note(fault);
                Ok(())
            }
        }
    }

    fn note(&self, fault: Fault) {
        self.history.fault(fault.kind(), &format!("{fault:?}"));
    }

    fn kill(&self, fault: Fault, node: usize, time: Duration) -> Result<()> {
        self.cluster.kill(node)?;
        self.note(fault);
        let_pass(time);
        self.cluster.start_again()
    }

    /// Stops the agent as soon as it is seen to write a snapshot, and kills it if it still does.
    fn kill_in_snapshot(&self, fault: Fault, at: usize) -> Result<()> {
        let node = &self.cluster.nodes[at];
        let begun = Instant::now();
        while begun.elapsed() < SNAPSHOT_LIMIT {
            if node.unfinished_snapshot().is_none() {
                let_pass(SNAPSHOT_LOOK);
                continue;
            }
            self.cluster.pause(at)?;
            // A stop takes hold when the system call under way has ended: only what is there afterwards counts.
            let pid = node.pid()?;
            wait_until("it is stopped", proc::GONE_LIMIT, || {
                proc::state(pid) == Some('T')
            })?;
            if node.unfinished_snapshot().is_some() {
                self.cluster.kill(at)?;
                self.note(fault);
                return self.cluster.start_again();
            }
            self.cluster.resume(at)?;
        }
        self.history
            .note(&format!("{} wrote no snapshot in {SNAPSHOT_LIMIT:?}", node.name));
        Ok(())
    }

    /// Has an attempt end while its agent, stopped, has lost the job to another. It goes on without links at first: whether it
    /// hears of the end or of the other first would be a race.
    fn late_end(&self, fault: Fault, at: usize) -> Result<()> {
        let node = &self.cluster.nodes[at];
        let path = self
            .cluster
            .file(&format!("go-{}", self.history.now().as_micros()));
        let input = format!("{}\n", path.display());
        let begun = Instant::now();
        let target = format!("/{}/", self.waiting);
        let mut http = Connection::to(&node.address, PORT)?.within(ANSWER_LIMIT);
        let asked = http.ask(&Request::post(&target, input.as_bytes()));
        let Ok(id) = asked.and_then(|answer| answer.job()) else {
            return Ok(());
        };
        let job = Accepted {
            id: id.clone(),
            workflow: self.waiting.to_owned(),
            expected: b"done\n".to_vec(),
            waited: begun.elapsed(),
            at: self.history.now(),
        };
        self.history.accepted(job, None, &node.name, "http");
        let attempts = || {
            let text = std::fs::read_to_string(self.starts).unwrap_or_default();
            text.lines().filter(|line| line.starts_with(&id)).count()
        };
        let ran = wait_until("it runs", TAKEN_LIMIT, || attempts() >= 1);
        let before = attempts();
        self.cluster.pause(at)?;
        let taken = ran.and_then(|_| wait_until("another runs it", TAKEN_LIMIT, || attempts() > before));
        // The job must end whatever came of this.
        std::fs::write(&path, b"")?;
        if taken.is_ok() {
            let ended = wait_until("its stages have ended", proc::GONE_LIMIT, || {
                proc::of_job(&id).is_empty()
            });
            if ended.is_ok() {
                self.note(fault);
            }
        }
        let cut = self.cluster.isolate(at)?;
        self.cluster.resume(at).context("let a stopped agent go on")?;
        let_pass(ENDS_WITHIN);
        cut.heal()
    }
}
