//! What a run under way shows of how far it has come: on a terminal, in `ps` and in `inspect`.

use std::time::Duration;

use anyhow::{Result, ensure};
use pipes_chaos::cluster::{Cluster, GONE_LIMIT};
use pipes_chaos::command::{Input, Running};
use pipes_chaos::terminal;
use pipes_chaos::wait::wait_for;

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
    cluster.call(&["stop", &id])?;
    running.finish_within(GONE_LIMIT)?;
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
