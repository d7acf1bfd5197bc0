//! Many queries: of one key, and so many that have ended that they must cost nothing.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::{Cluster, START_LIMIT};
use pipes_chaos::http::{self, Connection, Request};
use pipes_chaos::load::jobs::PORT;
use pipes_chaos::proc;
use pipes_chaos::wait::wait_for;

/// Clients that send one key at once.
const CLIENTS: usize = 100;
/// How long one agent is waited for before the next is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a query may take to be answered at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Jobs that have ended, unless `PIPES_FINISHED_JOBS` says otherwise.
const FINISHED: usize = 5_000;
/// Connections that submit them.
const SUBMITTERS: usize = 32;
/// How long all of them may take to end after the last was sent, for each.
const ENDED_LIMIT: Duration = Duration::from_millis(12);
/// What an agent may hold in memory with all of them.
const MEMORY_MAX: u64 = 128 << 20;
/// Until an agent that was killed serves again.
const RESTART_LIMIT: Duration = Duration::from_secs(5);
/// A page of a listing.
const PAGE_LIMIT: Duration = Duration::from_secs(1);
/// Jobs that are kept for a second, and how long they may be seen after it.
const SHORT_LIVED: usize = 50;
const FORGOTTEN_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn one_key_sent_by_a_hundred_clients_while_the_leader_dies_is_one_job() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    cluster.call(&["run", "-d", "--name", "copy", "--list", "cat"])?;
    let leader = cluster.leader()?;
    let all_ready = Barrier::new(CLIENTS + 1);
    let ids = std::thread::scope(|scope| -> Result<BTreeSet<String>> {
        let (cluster, all_ready) = (&cluster, &all_ready);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || -> Result<String> {
                    all_ready.wait();
                    let mut turn = client;
                    wait_for("an ID", ANSWER_LIMIT, || {
                        turn += 1;
                        let address = &cluster.nodes[turn % 3].address;
                        let query = Request::post("/copy/", b"some data");
                        let mut http = Connection::to(address, PORT)?.within(PATIENCE);
                        http.ask(&query.with(&[("Idempotency-Key", "one")]))?.job()
                    })
                })
            })
            .collect();
        all_ready.wait();
        cluster.kill(leader)?;
        let ids = clients.into_iter().map(|client| client.join().expect("no panic"));
        ids.collect()
    })?;
    ensure!(ids.len() == 1, "{ids:?}");
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    for node in &cluster.nodes {
        let other = Request::post("/copy/", b"other data").with(&[("Idempotency-Key", "one")]);
        http::ask(&node.address, PORT, &other)?.expect(409)?;
    }
    let listed = cluster.call(&["jobs", "-w", "copy", "-q"])?;
    ensure!(listed.lines().count() == 1, "{listed}");
    let id = ids.first().context("an ID")?;
    ensure!(cluster.call(&["result", id])? == "some data");
    cluster.finish()
}

#[test]
fn thousands_of_jobs_that_have_ended_are_listed_in_pages_and_cost_neither_memory_nor_a_slow_start()
-> Result<()> {
    let finished = std::env::var("PIPES_FINISHED_JOBS")
        .ok()
        .and_then(|text| text.parse().ok());
    let finished: usize = finished.unwrap_or(FINISHED);
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    cluster.call(&["run", "-d", "--name", "copy", "--list", "cat"])?;
    cluster.call(&["run", "-d", "--name", "brief", "--list", "--keep", "1s", "cat"])?;
    let begun = Instant::now();
    submit(&cluster, "copy", finished)?;
    submit(&cluster, "brief", SHORT_LIVED)?;
    let sent = begun.elapsed();
    // All agents list the same ones, a page after another.
    let limit = ENDED_LIMIT * u32::try_from(finished)?;
    let listed = wait_for("all have succeeded", limit, || {
        let listed = pages(&cluster, 0)?;
        ensure!(listed.len() == finished, "{} have", listed.len());
        Ok(listed)
    })?;
    println!(
        "{finished} jobs: sent in {sent:?}, ended after {:?}",
        begun.elapsed()
    );
    ensure!(pages(&cluster, 1)? == listed && pages(&cluster, 2)? == listed);
    for node in &cluster.nodes {
        let memory = proc::resident_memory(node.pid()?)?;
        println!(
            "{}: {} MiB, at most {} MiB",
            node.name,
            memory >> 20,
            proc::peak_memory(node.pid()?)? >> 20
        );
        ensure!(memory <= MEMORY_MAX, "{} holds {} MiB", node.name, memory >> 20);
    }
    wait_for("what is kept for a second is forgotten", FORGOTTEN_LIMIT, || {
        let left = cluster.call(&["jobs", "-w", "brief", "-q"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;

    cluster.kill(2)?;
    let begun = Instant::now();
    cluster.start_again()?;
    wait_for("it serves again", RESTART_LIMIT, || {
        http::ask(&cluster.nodes[2].address, PORT, &Request::get("/copy/readyz"))?.expect(200)
    })?;
    let took = begun.elapsed();
    ensure!(took <= RESTART_LIMIT, "an agent took {took:?} to be back");
    println!("back after {took:?}");
    ensure!(pages(&cluster, 2)? == listed, "its replica has them all");
    cluster.finish()
}

fn submit(cluster: &Cluster, workflow: &str, count: usize) -> Result<()> {
    let left = AtomicUsize::new(count);
    let target = format!("/{workflow}/");
    std::thread::scope(|scope| -> Result<()> {
        let submit = |client: usize| {
            let (left, target) = (&left, &target);
            scope.spawn(move || -> Result<()> {
                let mut http = Connection::to(&cluster.nodes[client % 3].address, PORT)?;
                let next =
                    || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                while let Ok(number) = next() {
                    let input = format!("query {number}");
                    http.ask(&Request::post(target, input.as_bytes()))?.job()?;
                }
                Ok(())
            })
        };
        let clients: Vec<_> = (0..SUBMITTERS).map(submit).collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
    })
}

/// All jobs that have succeeded, as one agent lists them over HTTP.
fn pages(cluster: &Cluster, node: usize) -> Result<BTreeSet<String>> {
    let mut http = Connection::to(&cluster.nodes[node].address, PORT)?;
    let mut listed = BTreeSet::new();
    let mut after = String::new();
    loop {
        let begun = Instant::now();
        let target = format!("/copy/jobs/?state=succeeded&limit=1000{after}");
        let page = http.ask(&Request::get(&target))?.expect(200)?.json()?;
        let took = begun.elapsed();
        ensure!(took <= PAGE_LIMIT, "a page took {took:?}");
        for job in page["jobs"].as_array().context("jobs")? {
            let id = job["id"].as_str().context("an ID")?;
            ensure!(listed.insert(id.to_owned()), "{id} is listed twice");
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(listed),
        }
    }
}
