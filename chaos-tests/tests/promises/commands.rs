//! The commands beside `run`: each does what interface.md says of it.

use std::time::Duration;

use anyhow::{Context, Result};
use pipes_chaos::cluster::{Cluster, GONE_LIMIT, START_LIMIT};
use pipes_chaos::command::{self, Input};
use pipes_chaos::proc;
use pipes_chaos::wait::{wait_for, wait_until};

#[test]
fn init_again_starts_what_is_down() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let before: Vec<i32> = cluster
        .nodes
        .iter()
        .map(|node| node.pid())
        .collect::<Result<_>>()?;
    cluster.kill(1)?;
    let init = cluster.pipes(&["init", "--local"]);
    command::start(init, Input::None)?
        .finish_within(START_LIMIT)?
        .success()?;
    cluster.all_up(START_LIMIT)?;
    assert_eq!(cluster.nodes[0].pid()?, before[0]);
    assert_ne!(cluster.nodes[1].pid()?, before[1]);
    for node in &cluster.nodes {
        let pid = node.pid()?;
        assert_eq!(proc::group(pid), Some(pid), "Ctrl-C would end {}", node.name);
    }
    cluster.finish()
}

#[test]
fn a_running_run_is_listed_and_can_be_stopped() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sleep", "cat", "sh"])?;
    let running = cluster
        .run("sh -c 'echo progress >&2; sleep 1000' | cat")
        .input(Input::Open)
        .start()?;
    cluster.stages_run(3)?;
    let id = wait_for("the run is listed", Duration::from_secs(5), || {
        let runs = cluster.json(&["ps"])?;
        let run = runs
            .as_array()
            .and_then(|runs| runs.first())
            .cloned()
            .context("no run")?;
        anyhow::ensure!(run["state"] == "running", "{run}");
        Ok(run["id"].as_str().unwrap_or_default().to_owned())
    })?;
    assert_eq!(cluster.call(&["ps", "-q"])?.trim(), id);
    let logs = wait_for("the stage's stderr is in its log", Duration::from_secs(5), || {
        let logs = cluster.call(&["logs", &id])?;
        anyhow::ensure!(logs.contains("progress"), "{logs:?}");
        Ok(logs)
    })?;
    assert!(logs.contains("progress"));
    let begun = std::time::Instant::now();
    cluster.call(&["stop", &id])?;
    // Stopped is what has ended: its record is there, and its processes are not.
    let run = cluster.json(&["inspect", &id])?;
    assert_eq!(run["state"], "cancelled", "{run}");
    let done = running.finish_within(GONE_LIMIT)?;
    assert!(begun.elapsed() < GONE_LIMIT);
    assert_eq!(
        done.code(),
        143,
        "SIGTERM ended cat, the last stage: {}",
        done.errors()
    );
    cluster.no_stages(GONE_LIMIT)?;
    cluster.finish()
}

#[test]
fn stop_waits_for_grace_and_then_kills() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["sh"])?;
    let line = "sh -c 'trap \"\" TERM; while true; do sleep 0.1; done'";
    let running = cluster.run(line).input(Input::Open).options(&["-q"]).start()?;
    cluster.stages_run(1)?;
    let id = wait_for("the run is listed", Duration::from_secs(5), || {
        let id = cluster.call(&["ps", "-q"])?.trim().to_owned();
        anyhow::ensure!(!id.is_empty(), "no run");
        Ok(id)
    })?;
    pipes_chaos::wait::let_pass(Duration::from_millis(300));
    let begun = std::time::Instant::now();
    cluster.call(&["stop", &id, "--grace", "1s"])?;
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "it did not wait for the end"
    );
    let done = running.finish_within(Duration::from_secs(10))?;
    assert_eq!(done.code(), 137, "{}", done.errors());
    cluster.no_stages(GONE_LIMIT)?;
    cluster.finish()
}

#[test]
fn an_unknown_service_keeps_no_other_from_being_removed() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat", "tr"])?;
    let done = cluster
        .attempt(&["service", "rm", "none", "cat", "nor-this", "service/tr"])?
        .expect(1)?;
    assert_eq!(done.output(), "cat\ntr\n");
    let errors = done.errors();
    assert!(
        errors.lines().count() == 2 && errors.contains("service none") && errors.contains("service nor-this"),
        "{errors}"
    );
    assert_eq!(cluster.call(&["service", "ls", "-q"])?, "");
    cluster.finish()
}

#[test]
fn a_cluster_is_stopped_started_and_removed() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    let processes = cluster.processes();
    assert!(processes.len() >= 3, "{processes:?}");
    cluster.call(&["cluster", "stop"])?;
    wait_until("no process is left after cluster stop", GONE_LIMIT, || {
        cluster.processes().is_empty()
    })?;
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    let done = cluster
        .run("cat")
        .input(Input::Bytes(b"kept".to_vec()))
        .finish()?
        .success()?;
    assert_eq!(done.output(), "kept");
    // Without a terminal it does not ask, and does nothing without --yes.
    let done = cluster.attempt(&["cluster", "rm"])?;
    assert!(
        done.code() != 0 && done.errors().contains("--yes"),
        "{}",
        done.errors()
    );
    assert!(cluster.nodes[0].is_up());
    cluster.call(&["cluster", "rm", "--yes"])?;
    wait_until("no process is left after cluster rm", GONE_LIMIT, || {
        cluster.processes().is_empty()
    })?;
    assert!(
        !cluster.nodes[0].folder.exists(),
        "the nodes' folders are still there"
    );
    assert_eq!(
        cluster.call(&["context", "ls", "-q"])?,
        "",
        "its context is still there"
    );
    Ok(())
}

#[test]
fn version_completions_and_help_need_no_cluster() -> Result<()> {
    let home = tempfile::tempdir()?;
    let pipes = |arguments: &[&str]| -> Result<command::Finished> {
        let mut command = std::process::Command::new(pipes_chaos::cluster::binaries().join("pipes"));
        command
            .args(arguments)
            .env("XDG_STATE_HOME", home.path())
            .env("XDG_CONFIG_HOME", home.path());
        command::run(command, Input::None)
    };
    assert!(pipes(&["version"])?.success()?.output().contains("0.1"));
    for shell in ["bash", "zsh", "fish"] {
        let text = pipes(&["completions", shell])?.success()?.output();
        assert!(text.contains("pipes"), "{shell}: {text}");
    }
    let help = pipes(&["--help"])?.success()?.output();
    for command in [
        "init", "build", "run", "ps", "inspect", "logs", "stop", "start", "rm", "scale", "update", "query",
        "result", "cancel", "retry", "jobs", "service", "node", "cluster", "context", "token",
    ] {
        assert!(
            help.lines()
                .any(|line| line.split_whitespace().next() == Some(command)),
            "{command} is not in:\n{help}"
        );
    }
    for later in ["secret", "top"] {
        assert!(
            !help
                .lines()
                .any(|line| line.split_whitespace().next() == Some(later)),
            "{later} is not built yet"
        );
    }
    let done = pipes(&["node", "ls"])?.expect(1)?;
    assert!(
        done.errors().starts_with("error: ") && done.errors().contains("pipes init"),
        "{}",
        done.errors()
    );
    Ok(())
}

#[test]
fn contexts_are_listed_used_and_removed() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let init = cluster.pipes(&["init", "--local", "1", "--name", "second"]);
    command::start(init, Input::None)?
        .finish_within(START_LIMIT)?
        .success()?;
    let names = cluster.call(&["context", "ls", "-q"])?;
    assert_eq!(names.lines().collect::<Vec<_>>(), ["local", "second"]);
    assert_eq!(cluster.json(&["cluster", "status"])?["name"], "second");
    cluster.call(&["context", "use", "local"])?;
    assert_eq!(cluster.json(&["cluster", "status"])?["name"], "local");
    cluster.call(&["cluster", "rm", "second", "--yes"])?;
    assert_eq!(cluster.call(&["context", "ls", "-q"])?.trim(), "local");
    cluster.finish()
}

#[test]
fn settings_are_checked() -> Result<()> {
    let cluster = Cluster::start(1)?;
    for setting in ["slots=4", "replicas=2", "warm=1m"] {
        cluster.call(&["cluster", "set", setting])?;
    }
    for setting in ["slots=0", "slots=many", "warm=soon", "colour=red", "slots"] {
        let done = cluster.attempt(&["cluster", "set", setting])?;
        assert!(
            done.code() != 0 && done.errors().starts_with("error: "),
            "{setting}: {}",
            done.errors()
        );
    }
    cluster.finish()
}
