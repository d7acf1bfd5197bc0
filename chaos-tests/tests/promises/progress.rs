//! What a run under way shows of how far it has come: on a terminal, in `ps` and in `inspect`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::{Cluster, GONE_LIMIT, START_LIMIT};
use pipes_chaos::command::{Input, Running};
use pipes_chaos::terminal;
use pipes_chaos::wait::{let_pass, wait_for};
use serde_json::Value;

/// A run is recorded once it is older than a second.
const RECORDED_AFTER: Duration = Duration::from_secs(2);

/// A run that goes on until it is ended, and its id.
fn begin(cluster: &Cluster, line: &str, nodes: &[&str]) -> Result<(Running, String)> {
    let running = cluster
        .run(line)
        .placed(nodes)
        .through(0)
        .input(Input::Open)
        .start()?;
    let id = wait_for("the run is listed", Duration::from_secs(10), || {
        let id = cluster.call(&["ps", "-q"])?.trim().to_owned();
        ensure!(!id.is_empty(), "no run");
        Ok(id)
    })?;
    Ok((running, id))
}

/// A run as the agent of this node shows it in `ps -a`.
fn listed_by(cluster: &Cluster, node: usize, id: &str) -> Result<Value> {
    let mut command = cluster.pipes(&["ps", "-a", "--format", "json"]);
    command.env("PIPES_AGENT", cluster.nodes[node].wamp());
    let listing = pipes_chaos::command::run(command, Input::None)?
        .success()?
        .output();
    let runs: Vec<Value> = serde_json::from_str(&listing)?;
    let run = runs.into_iter().find(|run| run["id"] == id);
    run.with_context(|| format!("{id} is not in {listing}"))
}

#[test]
fn a_run_under_way_shows_its_stages_times_and_bytes() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sh", "cat"])?;
    let (running, id) = begin(&cluster, "sh -c 'echo hello; sleep 1000' | cat", &["n2", "n3"])?;
    let run = wait_for("its bytes are shown", Duration::from_secs(10), || {
        let run = cluster.json(&["inspect", &id])?;
        ensure!(run["stages"][1]["bytes_out"] == 6, "{run}");
        Ok(run)
    })?;
    assert_eq!(run["state"], "running", "{run}");
    assert_eq!(run["stages"][0]["bytes_out"], 6, "{run}");
    assert_eq!(run["stages"][1]["bytes_in"], 6, "{run}");
    for stage in 0..2 {
        assert!(run["stages"][stage]["started"].is_string(), "{run}");
        assert!(run["stages"][stage]["finished"].is_null(), "{run}");
    }
    // What was recorded of it meanwhile gives way to how it ended.
    let_pass(RECORDED_AFTER);
    assert_eq!(listed_by(&cluster, 1, &id)?["state"], "running");
    cluster.call(&["stop", &id])?;
    running.finish_within(GONE_LIMIT)?;
    for node in 0..3 {
        let run = listed_by(&cluster, node, &id)?;
        assert_eq!(run["state"], "cancelled", "{run}");
        assert!(run["finished"].is_string(), "{run}");
    }
    cluster.finish()
}

#[test]
fn a_run_whose_coordinator_is_killed_is_listed_as_failed() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sleep"])?;
    let (running, id) = begin(&cluster, "sleep 1000", &["n2"])?;
    let_pass(RECORDED_AFTER);
    cluster.kill(0)?;
    running.finish_within(GONE_LIMIT)?.expect(125)?;
    // A new leader may have to be elected first.
    let run = wait_for("the run is shown as failed", Duration::from_secs(10), || {
        let run = listed_by(&cluster, 1, &id)?;
        ensure!(run["state"] == "failed", "{run}");
        Ok(run)
    })?;
    let is_lost = |run: &Value| {
        let names_the_server = run["reason"].as_str().is_some_and(|why| why.contains("n1"));
        run["state"] == "failed" && run["status"] == 125 && names_the_server
    };
    assert!(is_lost(&run), "{run}");
    let run = cluster.json(&["inspect", &id])?;
    assert!(is_lost(&run), "{run}");
    assert_eq!(cluster.call(&["ps", "-q"])?, "", "it does not run");
    let stop = cluster.attempt(&["stop", &id])?.expect(1)?;
    assert!(stop.errors().contains("has ended"), "{}", stop.errors());
    // The coordinator's next life knows nothing of it.
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    for node in 0..3 {
        let run = listed_by(&cluster, node, &id)?;
        assert!(is_lost(&run), "{run}");
    }
    cluster.finish()
}

#[test]
fn a_terminal_shows_each_hop_after_a_second_and_what_stages_write_stays_whole() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["sh", "cat"])?;
    let line = "sh -c 'echo hello; sleep 3; echo world' | cat";
    let (status, seen) = terminal::run(cluster.pipes(&["run", line]))?;
    assert!(status.success(), "{seen:?}");
    assert!(seen.starts_with("hello\r\n"), "{seen:?}");
    assert!(seen.ends_with("world\r\n"), "{seen:?}");
    assert!(
        seen.contains("in 0 B  1>2 6 B") && seen.contains("  out 6 B"),
        "{seen:?}"
    );
    let (_, seen) = terminal::run(cluster.pipes(&["run", "-q", line]))?;
    assert_eq!(seen, "hello\r\nworld\r\n");
    // A prompt is not written over.
    let line = "sh -c 'printf \"ready? \"; sleep 3; echo yes'";
    let (_, seen) = terminal::run(cluster.pipes(&["run", line]))?;
    assert_eq!(seen, "ready? yes\r\n");
    cluster.finish()
}
