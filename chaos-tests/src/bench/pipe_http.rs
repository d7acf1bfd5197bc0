//! `POST /pipe`: requests a second beside a minimal HTTP server that spawns the same executable for each request, and a
//! warm line of three stages beside `sh -c`.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::jobs::together;
use super::spawning::Server;
use super::{Aim, Table, milliseconds, percentiles};
use crate::cluster::Cluster;
use crate::command::{self, Input, tool};
use crate::http::{Connection, Request};
use crate::load::jobs::PORT;

/// How long requests are sent for one figure; three turns of each are taken.
const TIME: Duration = Duration::from_secs(3);
/// Turns: a machine's speed drifts.
const TURNS: usize = 3;
/// Requests of the line, one after another.
const RUNS: usize = 200;
/// A request's body.
const INPUT: &[u8] = b"some data\n";

/// All figures.
pub fn measure(cluster: &Cluster, table: &mut Table) -> Result<()> {
    for (name, line) in [("one", "cat"), ("three", "cat | cat | cat")] {
        cluster.call(&["run", "-d", "--name", name, "--port", "none", line])?;
    }
    // Stages read with `cat`, as the server beside does.
    let server = Server::start(&tool("cat")?)?;
    for clients in [1, 16] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            ours.push(rate(clients, "/one/pipe", |client| {
                let node = &cluster.nodes[client % cluster.nodes.len()];
                Connection::to(&node.address, PORT)
            })?);
            theirs.push(rate(clients, "/", |_| {
                Connection::to("127.0.0.1", server.port())
            })?);
        }
        table.beside(
            format!("/pipe requests/s, cat, {clients} clients"),
            percentiles(ours).0,
            "a server that spawns",
            percentiles(theirs).0,
            Some(Aim::RatioMin(0.6)),
        );
    }
    server.stop();
    line(cluster, table)?;
    for name in ["one", "three"] {
        cluster.call(&["rm", "--force", name])?;
    }
    Ok(())
}

/// Requests a second of so many clients, each on a connection of its own.
fn rate(clients: usize, target: &str, connect: impl Fn(usize) -> Result<Connection> + Sync) -> Result<f64> {
    let count = AtomicUsize::new(0);
    let begun = Instant::now();
    together(clients, |client| {
        let mut http = connect(client)?;
        while begun.elapsed() < TIME {
            pipe(&mut http, target)?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(count.into_inner() as f64 / begun.elapsed().as_secs_f64())
}

fn pipe(http: &mut Connection, target: &str) -> Result<()> {
    let answer = http.ask(&Request::post(target, INPUT))?.expect(200)?;
    ensure!(answer.body == INPUT, "{target} answered {answer:?}");
    Ok(())
}

fn line(cluster: &Cluster, table: &mut Table) -> Result<()> {
    let mut http = Connection::to(&cluster.nodes[0].address, PORT)?;
    for _ in 0..10 {
        pipe(&mut http, "/three/pipe")?;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let begun = Instant::now();
        pipe(&mut http, "/three/pipe")?;
        ours.push(milliseconds(begun.elapsed()));
        let begun = Instant::now();
        let mut sh = Command::new("sh");
        sh.args(["-c", "cat | cat | cat"]);
        let done = command::run(sh, Input::Bytes(INPUT.to_vec()))?.success()?;
        ensure!(done.stdout == INPUT, "{done:?}");
        theirs.push(milliseconds(begun.elapsed()));
    }
    let (ours, theirs) = (percentiles(ours), percentiles(theirs));
    table.beside(
        "warm /pipe of three stages, ms",
        ours.0,
        "sh -c",
        theirs.0,
        Some(Aim::RatioMax(1.6)),
    );
    table.beside("  its p99", ours.1, "sh -c, p99", theirs.1, None);
    Ok(())
}
