//! Daemon workflows over HTTP, from every agent's address: the real gateway before real runs and real jobs.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::http::{self, Answer, Request};
use pipes_chaos::wait::wait_for;

/// How long a job of a few octets may take.
const JOB_LIMIT: Duration = Duration::from_secs(10);
/// How long a query may wait for its ID while a majority is up.
const ACCEPTED_LIMIT: Duration = Duration::from_secs(3);
/// Octets that lie in a blob.
const LARGER_THAN_A_KEY: usize = 100_000;
/// A body that no window holds.
const LARGE: usize = 100_000_000;

/// Sends a whole request before anything of its answer is read.
fn ask(address: &str, port: u16, request: &str, body: &[u8]) -> Result<Answer> {
    let (method, target) = request.split_once(' ').context("a method and a target")?;
    let headers = [("Connection", "close")];
    let request = Request {
        method,
        target,
        headers: &headers,
        body,
    };
    http::ask(address, port, &request)
}

fn port(cluster: &Cluster, workflow: &str) -> Result<u16> {
    let shown = cluster.json(&["inspect", workflow])?;
    let port = shown["port"].as_u64().with_context(|| shown.to_string())?;
    Ok(u16::try_from(port)?)
}

#[test]
fn a_query_is_a_job_and_its_result_is_had_from_every_agents_address() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["tr", "rev"])?;
    ensure!(cluster.call(&["run", "-d", "--name", "words", "tr a-z A-Z | rev"])? == "words\n");
    let port = port(&cluster, "words")?;
    for asked in &cluster.nodes {
        let form = ask(&asked.address, port, "POST /", b"query=some_data")?;
        // Without its type it is no form, but the body as it was sent.
        let id = form.job()?;
        ensure!(id.starts_with('j'), "{id}");
        for node in &cluster.nodes {
            let job = wait_for("the job has succeeded", JOB_LIMIT, || {
                let shown = ask(&node.address, port, &format!("GET /jobs/{id}/"), b"")?;
                let job = shown.expect(200)?.json()?;
                ensure!(job["state"] == "succeeded", "{job}");
                Ok(job)
            })?;
            ensure!(job["result"]["text"] == "ATAD_EMOS=YREUQ", "{job}");
            let common = ask(&node.address, 7080, &format!("GET /words/jobs/{id}/result"), b"")?;
            ensure!(common.text() == "ATAD_EMOS=YREUQ", "{common:?}");
        }
    }
    ensure!(cluster.call(&["query", "some_data"])? == "ATAD_EMOS\n");
    ensure!(cluster.call(&["ps", "-a"])?.contains("words"));
    let first = &cluster.nodes[0].address;
    ask(first, 7080, "GET /nosuch/", b"")?.expect(404)?;
    ask(first, port, "GET /jobs/j01/", b"")?.expect(404)?;
    let refused = ask(first, port, "PATCH /pipe", b"")?.expect(405)?;
    ensure!(refused.header("allow").is_some(), "{refused:?}");
    cluster.finish()
}

#[test]
fn a_body_comes_through_a_workflow_unchanged_though_all_is_sent_before_anything_is_read() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "sh"])?;
    cluster.call(&["run", "-d", "--name", "copy", "cat | cat | cat"])?;
    cluster.call(&["run", "-d", "--name", "fails", "sh -c 'exit 3'"])?;
    let body: Vec<u8> = (0..LARGE).map(|at| (at * 7 / 3 % 251) as u8).collect();
    let address = &cluster.nodes[1].address;
    let answer = ask(address, port(&cluster, "copy")?, "POST /pipe", &body)?.expect(200)?;
    ensure!(answer.body == body, "{} octets came back", answer.body.len());
    let failed = ask(address, port(&cluster, "fails")?, "POST /pipe", b"")?.expect(502)?;
    ensure!(failed.header("pipes-status") == Some("3"), "{failed:?}");
    cluster.call(&["stop", "copy"])?;
    wait_for("it takes nothing new", JOB_LIMIT, || {
        ask(address, port(&cluster, "copy")?, "POST /pipe", b"x")?.expect(503)
    })?;
    cluster.finish()
}

#[test]
fn where_a_disk_has_little_room_left_jobs_and_builds_are_refused_and_say_why() -> Result<()> {
    let cluster = Cluster::start_recorded(1, &[])?;
    cluster.build(&["cat"])?;
    cluster.call(&["run", "-d", "--name", "copy", "cat"])?;
    let port = port(&cluster, "copy")?;
    let address = &cluster.nodes[0].address;
    let recording = cluster.recording.as_ref().context("it is recorded")?;
    recording.set_faults("n1", "free 0\n")?;
    let refused = wait_for("a few octets are refused", JOB_LIMIT, || {
        ask(address, port, "POST /", b"few")?.expect(503)
    })?;
    ensure!(refused.text().contains("no room"), "{}", refused.text());
    let large = ask(address, port, "POST /", &[b'a'; 32 << 10])?;
    large.expect(503)?;
    let path = cluster.write("late", b"#!/bin/sh\n")?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    let build = cluster.attempt(&["build", &path.to_string_lossy()])?;
    ensure!(
        build.code() != 0 && build.errors().contains("no room"),
        "{build:?}"
    );
    recording.set_faults("n1", "")?;
    wait_for("and taken again", JOB_LIMIT, || {
        ask(address, port, "POST /", b"few")?.expect(202)
    })?;
    cluster.finish()
}

#[test]
fn a_large_query_is_accepted_at_once_while_an_agent_neither_answers_nor_dies() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    cluster.call(&["run", "-d", "--name", "copy", "cat"])?;
    let port = port(&cluster, "copy")?;
    let stopped = (cluster.leader()? + 1) % 3;
    let asked = &cluster.nodes[(stopped + 1) % 3].address;
    ask(asked, port, "POST /", &[b'x'; LARGER_THAN_A_KEY])?.job()?;
    cluster.pause(stopped)?;
    let begun = Instant::now();
    let id = ask(asked, port, "POST /", &[b'y'; LARGER_THAN_A_KEY])?.job();
    let took = begun.elapsed();
    cluster.resume(stopped)?;
    let id = id?;
    ensure!(took < ACCEPTED_LIMIT, "it was accepted after {took:?}");
    ensure!(cluster.call(&["result", &id])?.len() == LARGER_THAN_A_KEY);
    cluster.finish()
}

#[test]
fn an_agent_that_has_just_started_does_not_deny_a_workflow_that_is_there() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    cluster.call(&["run", "-d", "--name", "copy", "cat"])?;
    cluster.kill_all()?;
    let is_up = AtomicBool::new(false);
    let statuses = std::thread::scope(|scope| -> Result<BTreeSet<u16>> {
        let (cluster, is_up) = (&cluster, &is_up);
        let asker = scope.spawn(move || {
            let mut statuses = BTreeSet::new();
            while !is_up.load(Ordering::Relaxed) {
                // Nobody listens yet, at first.
                if let Ok(answer) = ask(&cluster.nodes[1].address, 7080, "GET /copy/readyz", b"") {
                    statuses.insert(answer.status);
                }
            }
            statuses
        });
        let started = cluster.start_again();
        let ready = wait_for("it is ready", JOB_LIMIT, || {
            ask(&cluster.nodes[1].address, 7080, "GET /copy/readyz", b"")?.expect(200)
        });
        is_up.store(true, Ordering::Relaxed);
        started?;
        ready?;
        asker.join().map_err(|_| anyhow::anyhow!("the asker panicked"))
    })?;
    ensure!(!statuses.contains(&404), "{statuses:?}");
    cluster.finish()
}
