//! Jobs over HTTP: how many are accepted and completed, and how long one takes from its POST to its result.
//!
//! The rate is of clients that send the next query when the last was answered with its ID; completed are all of them, over
//! the time until the last one has ended. A job's time is that of `POST /?wait`, which answers with the result. Where
//! clients send at a rate, it counts from when the query was due: a slow answer makes later ones late, and that is seen.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Aim, Table, milliseconds, percentiles};
use crate::cluster::Cluster;
use crate::http::{Connection, Request};
use crate::load::jobs::PORT;
use crate::wait::{let_pass, wait_until};

/// How long queries are sent for one figure.
const TIME: Duration = Duration::from_secs(5);
/// How long all of them may take to end.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// Queries one after another: their p99 is the second or third worst.
const RUNS: usize = 200;
/// Clients that send at a rate, and how many queries a second they send together.
const PACED: (usize, u32) = (32, 150);
/// A query.
const INPUT: &[u8] = b"some data\n";

/// All figures.
pub fn measure(cluster: &Cluster, table: &mut Table) -> Result<()> {
    for (name, line) in [("one", "cat"), ("three", "cat | cat | cat")] {
        cluster.call(&["run", "-d", "--name", name, "--port", "none", line])?;
    }
    latency(cluster, table)?;
    paced(cluster, table)?;
    for clients in [1, 32, 256] {
        let (accepted, completed) = rates(cluster, clients)?;
        table.figure(format!("jobs accepted/s, cat, {clients} clients"), accepted, None);
        let aim = (clients == 256).then_some(Aim::Min(500.0));
        table.figure("  completed/s", completed, aim);
    }
    for name in ["one", "three"] {
        cluster.call(&["rm", "--force", name])?;
    }
    Ok(())
}

fn connection(cluster: &Cluster, client: usize) -> Result<Connection> {
    Connection::to(&cluster.nodes[client % cluster.nodes.len()].address, PORT)
}

/// One job, until its result is there.
fn job(http: &mut Connection, workflow: &str) -> Result<()> {
    let target = format!("/{workflow}/?wait=30");
    let answer = http.ask(&Request::post(&target, INPUT))?.expect(200)?;
    ensure!(answer.body == INPUT, "{:?}", answer.text());
    Ok(())
}

fn latency(cluster: &Cluster, table: &mut Table) -> Result<()> {
    let mut http = connection(cluster, 0)?;
    for _ in 0..10 {
        job(&mut http, "three")?;
    }
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        job(&mut http, "three")?;
        times.push(milliseconds(begun.elapsed()));
    }
    let (median, p99) = percentiles(times);
    table.figure("warm job of three stages, POST to result, ms", median, None);
    table.figure("  its p99", p99, None);
    Ok(())
}

fn paced(cluster: &Cluster, table: &mut Table) -> Result<()> {
    let (clients, rate) = PACED;
    let times = Mutex::new(Vec::new());
    let every = Duration::from_secs(clients as u64) / rate;
    together(clients, |client| {
        let mut http = connection(cluster, client)?;
        job(&mut http, "three")?;
        let begun = Instant::now() + every * u32::try_from(client)? / u32::try_from(clients)?;
        let mut own = Vec::new();
        let mut due = begun;
        while due < begun + 2 * TIME {
            let_pass(due.saturating_duration_since(Instant::now()));
            job(&mut http, "three")?;
            own.push(milliseconds(due.elapsed()));
            due += every;
        }
        times
            .lock()
            .map_err(|_| anyhow::anyhow!("a client panicked"))?
            .extend(own);
        Ok(())
    })?;
    let times = times
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a client panicked"))?;
    let (median, p99) = percentiles(times);
    table.figure(
        format!("job of three stages at {rate}/s, {clients} clients, ms"),
        median,
        None,
    );
    table.figure("  its p99", p99, Some(Aim::Max(50.0)));
    Ok(())
}

/// Queries accepted, and jobs completed, a second.
fn rates(cluster: &Cluster, clients: usize) -> Result<(f64, f64)> {
    let is_over = AtomicBool::new(false);
    let count = Mutex::new(0_usize);
    let begun = Instant::now();
    together(clients + 1, |client| {
        if client == clients {
            let_pass(TIME);
            is_over.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let mut http = connection(cluster, client)?;
        let mut own = 0;
        while !is_over.load(Ordering::Relaxed) {
            http.ask(&Request::post("/one/", INPUT))?.job()?;
            own += 1;
        }
        *count.lock().map_err(|_| anyhow::anyhow!("a client panicked"))? += own;
        Ok(())
    })?;
    let sent = begun.elapsed();
    let mut session = cluster.nodes[0].operator()?;
    let mut open = || -> Result<bool> {
        for state in ["queued", "running"] {
            let keywords = vec![
                ("workflow", "one".into()),
                ("state", state.into()),
                ("limit", 1.into()),
            ];
            let page = session.call("pipes.job.list", vec![], keywords)?.done()?;
            let jobs = page
                .first()
                .and_then(|page| page["jobs"].as_array().map(Vec::len));
            if jobs.context("jobs")? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    };
    wait_until("all jobs have ended", DRAIN_LIMIT, || matches!(open(), Ok(false)))?;
    let ended = begun.elapsed();
    let count = count
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a client panicked"))? as f64;
    Ok((count / sent.as_secs_f64(), count / ended.as_secs_f64()))
}

/// Runs so many clients at once; the first error of any is theirs all.
pub(super) fn together(clients: usize, client: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let client = &client;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..clients)
            .map(|number| scope.spawn(move || client(number)))
            .collect();
        let mut ended = Ok(());
        for one in all {
            let one = one
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")));
            ended = ended.and(one);
        }
        ended
    })
}
