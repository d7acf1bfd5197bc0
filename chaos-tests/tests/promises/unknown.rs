//! What cannot be known is said, never shown as empty: with an agent killed, with two of three, with the cluster stopped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::{Cluster, START_LIMIT};
use pipes_chaos::command::Finished;
use pipes_chaos::proc;
use pipes_chaos::report::Report;
use pipes_chaos::wait::{let_pass, wait_for};
use serde_json::Value;

/// How long whoever asks may be left without an answer.
const TOLD_WITHIN: Duration = Duration::from_secs(4);
/// How long a dead server's lease may live, and an election take.
const LEASE_LIMIT: Duration = Duration::from_secs(10);
/// What starts agents that are down.
const START: &str = "pipes cluster start local";

/// Asks, and has the answer in time with `status`; gives all that was said, which names `names` and nothing of the inside.
fn told(cluster: &Cluster, arguments: &[&str], status: i32, names: &[&str]) -> Result<Finished> {
    let done = cluster
        .attempt(arguments)?
        .expect(status)
        .with_context(|| format!("{arguments:?}"))?;
    let said = format!("{}{}", done.output(), done.errors());
    ensure!(
        done.took < TOLD_WITHIN,
        "{arguments:?}: after {:?}: {said}",
        done.took
    );
    for name in names {
        ensure!(said.contains(name), "{arguments:?}: no {name} in {said}");
    }
    ensure!(
        !said.contains("wamp.error") && !said.contains("etcdserver"),
        "{arguments:?}: {said}"
    );
    Ok(done)
}

/// `name state` of each node, by name.
fn states(nodes: &Value) -> Vec<String> {
    let nodes = nodes.as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut states: Vec<String> = nodes
        .map(|node| format!("{} {}", text(&node["name"]), text(&node["state"])))
        .collect();
    states.sort();
    states
}

fn shown(done: &Finished) -> Result<Value> {
    serde_json::from_str(&done.output()).with_context(|| done.output())
}

#[test]
fn a_dead_server_takes_neither_runs_nor_logs_with_it_unsaid() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sh", "cat"])?;
    let (_, over) = cluster
        .run("sh -c 'echo said >&2'")
        .options(&["-n"])
        .through(0)
        .reported()?;
    told(&cluster, &["logs", over.id()], 0, &["said"])?;

    // In its first second, through the agent that is killed. Its record is written beside it, 25 ms after its beginning.
    let lost = cluster
        .run("sh -c 'sleep 60'")
        .options(&["-n"])
        .placed(&["n2"])
        .through(0)
        .start()?;
    cluster.stages_run(1)?;
    let_pass(Duration::from_millis(700));
    cluster.kill(0)?;
    ensure!(lost.finish()?.code() == 125, "the caller of a lost run");

    told(&cluster, &["logs", over.id()], 1, &["n1", START])?;
    told(&cluster, &["ps"], 0, &["n1", START])?;
    let run = wait_for("the run is listed as lost", LEASE_LIMIT, || {
        let runs = cluster.json(&["ps", "-a"])?;
        let of_line = |run: &&Value| run["line"] == "sh -c 'sleep 60'";
        let run = runs.as_array().into_iter().flatten().find(of_line).cloned();
        let run = run.with_context(|| format!("not listed: {runs}"))?;
        ensure!(run["state"] == "failed" && run["status"] == 125, "{run}");
        Ok(run)
    })?;
    let id = run["id"].as_str().unwrap_or_default();
    told(&cluster, &["inspect", id], 0, &["n1"])?;
    told(&cluster, &["logs", id], 1, &["n1", START])?;
    told(&cluster, &["stop", id], 1, &["ended already"])?;
    told(&cluster, &["node", "ls"], 0, &["n1", "down", START])?;
    told(&cluster, &["cluster", "check"], 1, &["n1", START])?;
    for listing in [["service", "ls"], ["token", "ls"]] {
        told(&cluster, &listing, 0, &[])?;
    }
    let counted = told(&cluster, &["cluster", "ls"], 0, &["2/3"])?;
    ensure!(counted.errors().is_empty(), "{}", counted.errors());
    cluster.start_again()?;
    told(&cluster, &["logs", over.id()], 0, &["said"])?;
    cluster.finish()
}

#[test]
fn without_a_majority_it_is_said_who_is_missing_and_what_starts_it() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "sh"])?;
    let (_, over) = cluster
        .run("sh -c 'echo said >&2'")
        .options(&["-n"])
        .through(2)
        .reported()?;
    // Its record is there once it is listed.
    wait_for("the run is listed", LEASE_LIMIT, || {
        cluster.json(&["inspect", over.id()])?["finished"]
            .as_str()
            .map(drop)
            .context("unfinished")
    })?;
    cluster.kill_some(&[0, 1])?;
    let all = ["n1", "n2", START];

    let nodes = told(&cluster, &["node", "ls", "--format", "json"], 0, &all)?;
    ensure!(
        states(&shown(&nodes)?) == ["n1 down", "n2 down", "n3 sick"],
        "{}",
        nodes.output()
    );
    let status = told(&cluster, &["cluster", "status"], 0, &all)?;
    ensure!(status.output().contains("0/3"), "{}", status.output());
    told(&cluster, &["cluster", "ls"], 0, &["0/3"])?;
    told(&cluster, &["ps"], 0, &all)?;
    told(&cluster, &["ps", "-a"], 0, &[&all[..], &[over.id()]].concat())?;
    told(&cluster, &["inspect", over.id()], 0, &["succeeded"])?;
    told(&cluster, &["logs", over.id()], 0, &["said"])?;
    told(&cluster, &["stop", over.id()], 1, &["ended already"])?;
    for refused in [
        &["service", "ls"][..],
        &["service", "rm", "cat"],
        &["token", "ls"],
        &["inspect", "cat"],
        &["cluster", "check"],
        &["cluster", "set", "warm=5m"],
        &["build", "/bin/true"],
    ] {
        told(&cluster, refused, 1, &all)?;
    }
    told(&cluster, &["run", "-n", "cat"], 125, &all)?;
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    cluster.finish()
}

#[test]
fn a_stopped_cluster_is_shown_as_stopped() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.call(&["cluster", "stop"])?;
    let status = told(&cluster, &["cluster", "status", "--format", "json"], 0, &[START])?;
    let status = shown(&status)?;
    ensure!(
        states(&status["nodes"]) == ["n1 down", "n2 down", "n3 down"] && status["leader"].is_null(),
        "{status}"
    );
    told(&cluster, &["cluster", "ls"], 0, &["0/3"])?;
    for asked in [
        &["ps"][..],
        &["ps", "-a"],
        &["service", "ls"],
        &["node", "ls"],
        &["inspect", "r01"],
        &["logs", "r01"],
        &["stop", "r01"],
        &["token", "ls"],
        &["cluster", "check"],
        &["build", "/bin/true"],
    ] {
        told(&cluster, asked, 1, &["127.", START])?;
    }

    // Killed, and started again while the kernel still ends them.
    cluster.start_again()?;
    let pids: Vec<i32> = cluster
        .nodes
        .iter()
        .map(|node| node.pid())
        .collect::<Result<_>>()?;
    for pid in pids {
        proc::signal(pid, libc::SIGKILL)?;
    }
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    cluster.finish()
}

#[test]
fn a_report_of_a_run_that_did_not_come_about_replaces_the_one_before() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat"])?;
    let path = cluster.file("report");
    let option = path.to_string_lossy().into_owned();
    let reported = |line: &str, status: i32| -> Result<Report> {
        std::fs::write(&path, r#"{"id":"r1","state":"succeeded","status":0,"stages":[]}"#)?;
        let run = cluster.run(line).options(&["-n", "--report", &option]).finish()?;
        run.expect(status)?;
        let report = Report::read(&path)?;
        ensure!(
            report.state() == "failed" && report.whole["status"] == status,
            "{line}: {}",
            report.whole
        );
        ensure!(
            report.whole["line"] == line && report.whole["reason"].is_string(),
            "{}",
            report.whole
        );
        Ok(report)
    };
    reported("none", 127)?;
    reported("cat | ", 125)?;
    reported("cat >x", 125)?;
    cluster.call(&["cluster", "stop"])?;
    reported("cat", 125)?;
    cluster.start_again()?;
    let done = cluster
        .run("none")
        .options(&["-n", "--report", "-"])
        .finish()?
        .expect(127)?;
    ensure!(done.errors().trim_end().ends_with('}'), "{}", done.errors());
    cluster.finish()
}

#[test]
fn a_running_runs_stages_show_what_went_through_them() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sh", "cat", "sleep"])?;
    let running = cluster
        .run("sh -c 'echo 1234567; exec sleep 60' | cat | sleep 60")
        .options(&["-n"])
        .start()?;
    let id = wait_for("the run is listed", LEASE_LIMIT, || {
        let ids = cluster.call(&["ps", "-q"])?;
        Ok(ids.lines().next().context("no run")?.to_owned())
    })?;
    wait_for("its bytes are known", LEASE_LIMIT, || {
        let run = Report::parse(cluster.json(&["inspect", &id])?)?;
        let bytes: Vec<_> = run
            .stages
            .iter()
            .map(|stage| (stage.bytes_in, stage.bytes_out))
            .collect();
        // What sleep was given lies in its pipe: how much of that counts is the shim's to say.
        ensure!(
            bytes[0] == (Some(0), Some(8)) && bytes[1] == (Some(8), Some(8)) && bytes[2].1 == Some(0),
            "{bytes:?}"
        );
        Ok(())
    })?;
    cluster.call(&["stop", "--grace", "0s", &id])?;
    ensure!(running.finish()?.code() != 0, "a stopped run");
    cluster.finish()
}

#[test]
fn while_an_agent_stops_another_answers() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "sleep"])?;
    // A run under way has the agent take its time to stop.
    let run = cluster.run("sleep 60").options(&["-n"]).through(0).start()?;
    cluster.stages_run(1)?;
    let pid = cluster.nodes[0].pid()?;
    proc::signal(pid, libc::SIGTERM)?;
    while proc::is_alive(pid) {
        for arguments in [
            &["service", "ls"][..],
            &["ps", "-a"],
            &["inspect", "cat"],
            &["build", "/bin/cat"],
            &["run", "-n", "--place", "1=n3", "cat"],
        ] {
            let done = cluster.attempt(arguments)?.success();
            done.with_context(|| format!("{arguments:?}"))?;
        }
    }
    ensure!(run.finish()?.code() == 125, "a run whose coordinator stopped");
    cluster.finish()
}
