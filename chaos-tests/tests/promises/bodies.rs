//! Bodies of any size go through daemon workflows unchanged, and no agent holds one in memory.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::http::{Answer, Connection, Request};
use pipes_chaos::load::jobs::PORT;
use pipes_chaos::proc;
use pipes_chaos::random;

/// A body, unless `PIPES_BODY_BYTES` says otherwise.
const BODY: usize = 256 << 20;
/// What an agent may ever have had in memory.
const PEAK_MAX: u64 = 96 << 20;

/// How long an answer may take: as long as a job may be waited for, and some more.
const ANSWER_LIMIT: Duration = Duration::from_secs(320);

fn ask(address: &str, request: &Request<'_>) -> Result<Answer> {
    Connection::to(address, PORT)?.within(ANSWER_LIMIT).ask(request)
}

fn peaks(cluster: &Cluster, after: &str) -> Result<()> {
    for node in &cluster.nodes {
        let peak = proc::peak_memory(node.pid()?)?;
        println!("{after}: {} had {} MiB at most", node.name, peak >> 20);
        ensure!(peak <= PEAK_MAX, "{after}: {} had {} MiB", node.name, peak >> 20);
    }
    Ok(())
}

#[test]
fn a_large_body_comes_through_pipe_and_through_a_job_unchanged_in_little_memory() -> Result<()> {
    let bytes = std::env::var("PIPES_BODY_BYTES")
        .ok()
        .and_then(|text| text.parse().ok());
    let body = random::bytes(random::seed("bodies"), bytes.unwrap_or(BODY));
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    cluster.call(&["run", "-d", "--name", "copy", "cat | cat"])?;

    // All of it is sent before anything is read, so most of it lies in a file meanwhile.
    let address = &cluster.nodes[0].address;
    let answer = ask(address, &Request::post("/copy/pipe", &body))?.expect(200)?;
    ensure!(
        answer.body == body,
        "{} octets came through /pipe",
        answer.body.len()
    );
    drop(answer);
    peaks(&cluster, "/pipe")?;

    let id = ask(address, &Request::post("/copy/", &body))?.job()?;
    let target = format!("/copy/jobs/{id}/?wait=300");
    let job = ask(address, &Request::get(&target))?.expect(200)?.json()?;
    ensure!(job["state"] == "succeeded", "{job}");
    let elsewhere = &cluster.nodes[2].address;
    let target = format!("/copy/jobs/{id}/result");
    let answer = ask(elsewhere, &Request::get(&target))?.expect(200)?;
    ensure!(
        answer.body == body,
        "{} octets are the job's result",
        answer.body.len()
    );
    let etag = answer.header("etag").context("an ETag")?.to_owned();
    drop(answer);
    peaks(&cluster, "a job")?;

    let known = [("If-None-Match", etag.as_str())];
    ask(elsewhere, &Request::get(&target).with(&known))?.expect(304)?;
    let part = Request::get(&target).with(&[("Range", "bytes=1000-1999")]);
    let part = ask(elsewhere, &part)?.expect(206)?;
    ensure!(
        part.body == body[1000..2000],
        "{} octets of a range",
        part.body.len()
    );
    cluster.finish()
}
