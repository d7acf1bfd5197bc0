//! `POST /pipe` and its clients: those that never read, go in the middle, or wait for a stage that thinks; and stages that
//! fail before and after their first byte.
//!
//! The clients are there at the same time: most of what they wait for is time itself.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::http::{self, Request};
use pipes_chaos::load::jobs::PORT;
use pipes_chaos::proc;
use pipes_chaos::wait::{wait_for, wait_until};

/// How long a stage thinks: twice what a client may be silent.
const THINKS: Duration = Duration::from_secs(60);
/// When a client that never reads is given up: 30 s, and some more on a busy machine.
const GIVEN_UP: (Duration, Duration) = (Duration::from_secs(25), Duration::from_secs(50));
/// When the stages of a client that went have ended.
const ENDED_LIMIT: Duration = Duration::from_secs(2);
/// How long a run may take to begin.
const BEGUN_LIMIT: Duration = Duration::from_secs(10);

/// Begins a request and leaves the rest to the caller.
fn begin(address: &str, workflow: &str, length: usize, sent: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((address, PORT))?;
    let head =
        format!("POST /{workflow}/pipe HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(sent)?;
    Ok(stream)
}

/// The processes of a workflow's stages, which say what they are by an argument.
fn stages(cluster: &Cluster, mark: &str) -> Vec<i32> {
    let all = proc::stages(&cluster.id, None).into_iter();
    all.filter(|pid| proc::command_line(*pid).contains(mark))
        .collect()
}

fn runs(cluster: &Cluster, mark: &str) -> Result<()> {
    wait_until("its stages run", BEGUN_LIMIT, || {
        !stages(cluster, mark).is_empty()
    })?;
    Ok(())
}

fn a_stage_that_thinks_is_waited_for(cluster: &Cluster) -> Result<()> {
    let begun = Instant::now();
    let request = Request::post("/thinks/pipe", b"");
    let answer = http::Connection::to(&cluster.nodes[1].address, PORT)?
        .within(2 * THINKS)
        .ask(&request)?
        .expect(200)?;
    ensure!(
        answer.text() == "thought\n" && begun.elapsed() >= THINKS,
        "{answer:?}"
    );
    Ok(())
}

fn one_that_never_reads_is_given_up(cluster: &Cluster) -> Result<()> {
    let begun = Instant::now();
    let deaf = begin(&cluster.nodes[0].address, "floods", 0, b"")?;
    runs(cluster, "flood")?;
    let limit = GIVEN_UP.1;
    wait_until("its stages have ended", limit, || {
        stages(cluster, "flood").is_empty()
    })?;
    let took = begun.elapsed();
    ensure!(took >= GIVEN_UP.0, "it was given up after {took:?}");
    // What lay ready is read now; the body was broken off, not ended.
    let broken = http::receive(&mut BufReader::new(deaf), "POST");
    ensure!(broken.is_err(), "it was answered as if whole");
    Ok(())
}

fn one_that_goes_takes_its_stages_along(cluster: &Cluster) -> Result<()> {
    for (node, is_reading) in [(0, false), (1, true)] {
        let mark = if is_reading { "reader" } else { "sender" };
        let mut stream = begin(&cluster.nodes[node].address, mark, 1 << 20, &[b'x'; 1_000])?;
        runs(cluster, mark)?;
        if is_reading {
            stream
                .read_exact(&mut [0; 12])
                .context("the answer's beginning")?;
        }
        drop(stream);
        let took = wait_until("its stages have ended", ENDED_LIMIT, || {
            stages(cluster, mark).is_empty()
        })?;
        println!("{mark}: its stages ended after {took:?}");
    }
    Ok(())
}

fn a_failure_is_told_in_the_head_or_behind_the_body(cluster: &Cluster) -> Result<()> {
    let address = &cluster.nodes[2].address;
    let ask = |target: &str, headers| http::ask(address, PORT, &Request::post(target, b"in").with(headers));
    let before = ask("/fails/pipe", &[])?.expect(502)?;
    ensure!(before.header("pipes-status") == Some("3"), "{before:?}");
    // The client that understands trailers has the whole body; for others it never ends.
    let after = ask("/failslater/pipe", &[("TE", "trailers")])?.expect(200)?;
    ensure!(
        after.text() == "out\n" && after.header("pipes-status") == Some("3"),
        "{after:?}"
    );
    let broken = ask("/failslater/pipe", &[]);
    ensure!(
        broken.is_err(),
        "a failed run's body ended as if whole: {broken:?}"
    );
    Ok(())
}

#[test]
fn clients_of_pipe_that_are_slow_deaf_or_gone_and_stages_that_fail_have_what_is_theirs() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sh", "yes", "cat"])?;
    let thinks = format!("sh -c 'cat; sleep {}; echo thought'", THINKS.as_secs());
    for (name, line) in [
        ("thinks", thinks.as_str()),
        ("floods", "yes flood"),
        ("sender", "sh -c 'cat; : sender' | cat"),
        ("reader", "sh -c 'cat; : reader' | cat"),
        ("fails", "sh -c 'cat >/dev/null; exit 3'"),
        (
            "failslater",
            "sh -c 'echo out; cat >/dev/null; sleep 0.5; exit 3'",
        ),
    ] {
        cluster.call(&["run", "-d", "--name", name, "--port", "none", line])?;
    }
    std::thread::scope(|scope| -> Result<()> {
        let cluster = &cluster;
        let slow = [
            a_stage_that_thinks_is_waited_for,
            one_that_never_reads_is_given_up,
        ]
        .map(|client| scope.spawn(move || client(cluster)));
        one_that_goes_takes_its_stages_along(cluster)?;
        a_failure_is_told_in_the_head_or_behind_the_body(cluster)?;
        for client in slow {
            client
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    wait_for("nothing lies aside any more", BEGUN_LIMIT, || {
        for node in &cluster.nodes {
            let left = std::fs::read_dir(node.folder.join("spool"))?.count();
            ensure!(left == 0, "{left} files in the spool of {}", node.name);
        }
        Ok(())
    })?;
    cluster.no_stages(BEGUN_LIMIT)?;
    cluster.finish()
}
