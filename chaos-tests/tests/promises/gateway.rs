//! Daemon workflows over HTTP, from every agent's address: the real gateway before real runs and real jobs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::wait::wait_for;

/// How long a job of a few octets may take.
const JOB_LIMIT: Duration = Duration::from_secs(10);
/// How long an answer may.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A body that no window holds.
const LARGE: usize = 40_000_000;

/// An answer: its head, and its body as it came.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn is(&self, status: u16) -> Result<()> {
        let expected = format!("HTTP/1.1 {status} ");
        ensure!(self.head.starts_with(&expected), "{} {}", self.head, self.text());
        Ok(())
    }
}

/// Sends a whole request before anything of its answer is read.
fn ask(address: &str, port: u16, request: &str, body: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect((address, port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    let end = said.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.with_context(|| String::from_utf8_lossy(&said).into_owned())?;
    let head = String::from_utf8_lossy(&said[..end]).into_owned();
    let mut body = said.split_off(end + 4);
    if head.contains("transfer-encoding: chunked") {
        body = unchunked(&body)?;
    }
    Ok(Answer { head, body })
}

/// A chunked body without its heads; one that was broken off is none.
fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n");
        let end = end.context("broken off in a chunk's head")?;
        let size = std::str::from_utf8(&rest[..end])?;
        let size = usize::from_str_radix(size, 16).with_context(|| size.to_owned())?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = rest
            .get(end + 2..end + 2 + size)
            .context("broken off in a chunk")?;
        body.extend_from_slice(chunk);
        rest = &rest[end + 2 + size + 2..];
    }
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
        form.is(202)?;
        let id = form.text().trim().replace("Job ID: ", "");
        ensure!(id.starts_with('j'), "{id}");
        for node in &cluster.nodes {
            let job = wait_for("the job has succeeded", JOB_LIMIT, || {
                let shown = ask(&node.address, port, &format!("GET /jobs/{id}/"), b"")?;
                shown.is(200)?;
                let job: serde_json::Value = serde_json::from_slice(&shown.body)?;
                ensure!(job["state"] == "succeeded", "{job}");
                Ok(job)
            })?;
            ensure!(job["result"]["text"] == "ATAD_EMOS=YREUQ", "{job}");
            let common = ask(&node.address, 7080, &format!("GET /words/jobs/{id}/result"), b"")?;
            ensure!(common.text() == "ATAD_EMOS=YREUQ", "{}", common.head);
        }
    }
    ensure!(cluster.call(&["query", "some_data"])? == "ATAD_EMOS\n");
    ensure!(cluster.call(&["ps", "-a"])?.contains("words"));
    let first = &cluster.nodes[0].address;
    ask(first, 7080, "GET /nosuch/", b"")?.is(404)?;
    ask(first, port, "GET /jobs/j01/", b"")?.is(404)?;
    let refused = ask(first, port, "PATCH /pipe", b"")?;
    refused.is(405)?;
    ensure!(refused.head.contains("allow: "), "{}", refused.head);
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
    let answer = ask(address, port(&cluster, "copy")?, "POST /pipe", &body)?;
    answer.is(200)?;
    ensure!(answer.body == body, "{} octets came back", answer.body.len());
    let failed = ask(address, port(&cluster, "fails")?, "POST /pipe", b"")?;
    failed.is(502)?;
    ensure!(failed.head.contains("pipes-status: 3"), "{}", failed.head);
    cluster.call(&["stop", "copy"])?;
    wait_for("it takes nothing new", JOB_LIMIT, || {
        ask(address, port(&cluster, "copy")?, "POST /pipe", b"x")?.is(503)
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
    recording.set_faults("n1", "free 9\n")?;
    let refused = wait_for("a few octets are refused", JOB_LIMIT, || {
        let refused = ask(address, port, "POST /", b"few")?;
        refused.is(503)?;
        Ok(refused)
    })?;
    ensure!(refused.text().contains("no room"), "{}", refused.text());
    let large = ask(address, port, "POST /", &[b'a'; 32 << 10])?;
    large.is(503)?;
    let path = cluster.write("late", b"#!/bin/sh\n")?;
    let build = cluster.attempt(&["build", &path.to_string_lossy()])?;
    ensure!(
        build.code() != 0 && build.errors().contains("no room"),
        "{build:?}"
    );
    recording.set_faults("n1", "")?;
    wait_for("and taken again", JOB_LIMIT, || {
        ask(address, port, "POST /", b"few")?.is(202)
    })?;
    cluster.finish()
}
