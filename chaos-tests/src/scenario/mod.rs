//! A round of chaos: a cluster under load, faults one after another, and what must hold all the same.
//!
//! The story of a round, and where each part of it is told:
//!
//! ```text
//! 1  a cluster with two workflows; a snapshot every 500 entries     here
//! 2  clients submit queries, put keys, read and write registers     load/
//! 3  faults come in turn, as the seed's plan says                   plan.rs, faults.rs
//! 4  clients end, what was cut or killed is healed                  here
//! 5  every invariant is looked at                                   invariant/
//! 6  on a violation: seed, history, logs and stores are kept        here
//! ```
//!
//! A seed gives the plan and what clients send. It does not give when each process gets the processor, so a round is not
//! repeated exactly; the history says what happened.

mod faults;
pub mod plan;
pub mod queries;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::{Cluster, START_LIMIT};
use crate::history::History;
use crate::invariant::{self, Counts, Seen};
use crate::load::{jobs, keys};
use crate::proc;
use crate::wait::{let_pass, wait_until};
use faults::Target;
use plan::Step;

/// Entries between two snapshots: some come in each round.
const SNAPSHOT_ENTRIES: u64 = 500;
/// Clients of the store.
const KEY_CLIENTS: usize = 4;
/// How long an agent that was stopped may take to be itself again.
const CLIENTS_END_LIMIT: Duration = Duration::from_secs(60);
/// The workflow that takes the queries, and the one whose stage waits.
const WORKFLOW: &str = "upper";
const WAITING: &str = "waits";

/// What a round is.
#[derive(Clone, Debug)]
pub struct Round {
    /// Of all that is random in it.
    pub seed: u64,
    /// What is done to the cluster.
    pub plan: Vec<Step>,
    /// Clients that submit.
    pub clients: usize,
    /// What each of them rests between two queries.
    pub pace: Duration,
    /// Queries in all; more than can be, where the plan's end is to end them.
    pub queries: usize,
    /// Whether some of them go over WAMP, and clients of the store work besides.
    pub is_mixed: bool,
    /// Whether agents have clocks that can be stepped.
    pub has_clocks: bool,
    /// Where what is left of a failed round is kept.
    pub keep: PathBuf,
}

/// What came of a round.
#[derive(Debug, Default)]
pub struct Summary {
    /// Queries whose ID was answered.
    pub jobs: usize,
    /// Attempts, as the stages say.
    pub counts: Counts,
    /// Faults that were carried out, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Late ends of attempts that agents say they refused.
    pub late_refused: usize,
    /// The longest that a query waited while a majority was up.
    pub slowest: Duration,
    /// Operations on registers, and keys that were put once.
    pub operations: [usize; 2],
    /// What does not hold.
    pub violations: Vec<String>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts {
            attempts,
            later_attempts,
        } = self.counts;
        let [registers, kept] = self.operations;
        write!(
            f,
            "{} jobs in {attempts} attempts ({later_attempts} after another), slowest answer {:?}, {} late ends refused, \
             {registers} operations on registers, {kept} keys; ",
            self.jobs, self.slowest, self.late_refused
        )?;
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        write!(f, "{}; {} violations", faults.join(", "), self.violations.len())
    }
}

/// Goes through a round. An error is one that could not be gone through; what does not hold is in the summary.
pub fn go(round: &Round) -> Result<Summary> {
    let cluster = match round.has_clocks {
        true => Cluster::start_clocked(3, &[])?,
        false => Cluster::start(3)?,
    };
    let starts = cluster.write("starts", b"")?;
    let history = History::to(&cluster.file("history.jsonl"))?;
    let went = prepare(&cluster, &starts).and_then(|()| under_faults(round, &cluster, &history, &starts));
    let healed = heal(&cluster);
    let mut summary = Summary::default();
    let broken = [went.err(), healed.err()].into_iter().flatten();
    summary
        .violations
        .extend(broken.map(|error| format!("the round broke off: {error:#}")));
    if summary.violations.is_empty() {
        let seen = Seen {
            cluster: &cluster,
            history: &history,
            starts: &starts,
        };
        (summary.counts, summary.violations) = invariant::look(seen);
    }
    sum_up(&mut summary, &cluster, &history);
    if !summary.violations.is_empty() {
        keep(round, &cluster, &summary)?;
    }
    // What is left running after an ordered stop is a violation like any other, but its cluster is gone by now.
    if let Err(error) = cluster.finish() {
        summary.violations.push(format!("left over: {error:#}"));
    }
    Ok(summary)
}

/// Builds and starts the workflows.
fn prepare(cluster: &Cluster, starts: &Path) -> Result<()> {
    cluster.configure(&format!("\n[store]\nsnapshot_entries = {SNAPSHOT_ENTRIES}\n"))?;
    cluster.build(&["tr"])?;
    let log = format!(
        "#!/bin/sh\necho \"$PIPES_JOB $PIPES_ATTEMPT\" >>'{}'\n",
        starts.display()
    );
    cluster.script("note", &format!("{log}exec cat\n"))?;
    let waiting = "read -r path\nwhile [ ! -e \"$path\" ]; do sleep 0.05; done\necho done\n";
    cluster.script("wait", &format!("{log}{waiting}"))?;
    cluster.call(&[
        "run",
        "-d",
        "--name",
        WORKFLOW,
        "--port",
        "none",
        "note | tr a-z A-Z",
    ])?;
    cluster.call(&["run", "-d", "--name", WAITING, "--port", "none", "wait"])?;
    Ok(())
}

fn under_faults(round: &Round, cluster: &Cluster, history: &History, starts: &Path) -> Result<()> {
    let (is_over, left) = (AtomicBool::new(false), AtomicUsize::new(round.queries));
    let load = jobs::Load {
        cluster,
        history,
        workflow: WORKFLOW,
        pace: round.pace,
        over_wamp: round.is_mixed,
        left: &left,
        is_over: &is_over,
    };
    let target = Target {
        cluster,
        history,
        waiting: WAITING,
        starts,
    };
    std::thread::scope(|scope| -> Result<()> {
        let (load, is_over) = (&load, &is_over);
        let mut clients: Vec<_> = (0..round.clients)
            .map(|client| scope.spawn(move || load.submit(client, round.seed)))
            .collect();
        if round.is_mixed {
            clients.extend((0..KEY_CLIENTS).map(|client| {
                scope.spawn(move || keys::work(cluster, history, client, round.seed, is_over))
            }));
        }
        let went = round.plan.iter().try_for_each(|step| {
            let_pass(step.calm);
            let fault = step.fault;
            target.carry_out(fault).with_context(|| format!("{fault:?}"))
        });
        // A number of queries is to be reached; without one the plan's end is the end.
        let all_sent = match went.is_ok() && round.queries < usize::MAX {
            true => wait_until("all queries were answered", CLIENTS_END_LIMIT, || {
                clients.iter().all(std::thread::ScopedJoinHandle::is_finished)
            }),
            false => Ok(Duration::ZERO),
        };
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        went?;
        all_sent?;
        Ok(())
    })
}

/// Lets go on what is stopped, starts what is down, and waits until all is up.
fn heal(cluster: &Cluster) -> Result<()> {
    for node in &cluster.nodes {
        if let Ok(pid) = node.pid() {
            let _ = proc::signal(pid, libc::SIGCONT);
        }
    }
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)
}

fn sum_up(summary: &mut Summary, cluster: &Cluster, history: &History) {
    let told = history.told();
    summary.jobs = told.accepted.len();
    summary.faults = told.faults.clone();
    summary.operations = [told.registers.values().map(Vec::len).sum(), told.kept.len()];
    // One that was under way while there was no majority waited for that as well.
    let had_majority = told.accepted.iter().filter(|job| {
        let begun = job.at.saturating_sub(job.waited);
        let mut gaps = told.without_majority.iter();
        !gaps.any(|(from, to)| begun < *to && *from < job.at)
    });
    summary.slowest = had_majority.map(|job| job.waited).max().unwrap_or_default();
    let refusals = cluster.nodes.iter().map(|node| {
        let log = node.log();
        log.matches("a late end of an attempt was refused").count()
    });
    summary.late_refused = refusals.sum();
}

/// Keeps the seed, the plan, the history, the logs and the stores.
fn keep(round: &Round, cluster: &Cluster, summary: &Summary) -> Result<()> {
    let folder = round.keep.join(format!("seed-{}", round.seed));
    std::fs::create_dir_all(&folder)?;
    let begun = Instant::now();
    let mut copy = Command::new("cp");
    copy.args(["-a", "--"])
        .args([cluster.home().join("s"), cluster.home().join("w")])
        .arg(&folder);
    // The logs are written while they are copied, and sockets are no files: what can be had is enough.
    let _ = copy.stderr(std::process::Stdio::null()).status();
    std::fs::write(folder.join("round"), format!("{round:#?}\n{summary:#?}\n"))?;
    println!("kept in {} ({:?})", folder.display(), begun.elapsed());
    Ok(())
}
