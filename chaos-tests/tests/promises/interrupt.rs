//! Whatever ends a run, nothing of it is left: Ctrl-C, a killed CLI, a killed agent.

use std::time::{Duration, Instant};

use anyhow::Result;
use pipes_chaos::cluster::{Cluster, GONE_LIMIT, START_LIMIT};
use pipes_chaos::command::Input;
use pipes_chaos::wait::{let_pass, wait_for, wait_until};

/// A stage whose descendant forked twice, has a session of its own and ignores SIGTERM. `quiet` closes its
/// descriptors, `loud` holds the stage's stdout.
const STUBBORN: &str = r#"#!/bin/sh
if [ "$1" = quiet ]; then
    setsid sh -c 'trap "" TERM HUP; (sleep 1000; true) & (sleep 1000; true) & exit 0' </dev/null >/dev/null 2>&1
else
    setsid sh -c 'trap "" TERM HUP; (sleep 1000; true) & (sleep 1000; true) & exit 0'
fi
sleep 1000
"#;

/// How soon a run begun right after the leader's death must have ended.
const AFTER_LEADER: Duration = Duration::from_secs(2);

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "sleep", "echo"])?;
    cluster.script("stubborn", STUBBORN)?;
    Ok(cluster)
}

/// sleep of the stage, its two shells and theirs: at least five processes, and cat.
const STUBBORN_PROCESSES: usize = 6;

#[test]
fn one_ctrl_c_ends_all_where_the_descendant_holds_nothing() -> Result<()> {
    let cluster = cluster()?;
    let running = cluster.run("stubborn quiet | cat").input(Input::Open).start()?;
    cluster.stages_run(STUBBORN_PROCESSES)?;
    running.signal(libc::SIGINT)?;
    let done = running.finish_within(GONE_LIMIT)?;
    assert_eq!(done.code(), 130, "{}", done.errors());
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&done.status),
        Some(libc::SIGINT),
        "not by INT itself"
    );
    cluster.no_stages(GONE_LIMIT)?;
    cluster.finish()
}

#[test]
fn two_ctrl_c_end_all_where_the_descendant_holds_stdout() -> Result<()> {
    let cluster = cluster()?;
    let mut running = cluster.run("cat | stubborn loud").input(Input::Open).start()?;
    cluster.stages_run(STUBBORN_PROCESSES)?;
    running.signal(libc::SIGINT)?;
    let_pass(Duration::from_millis(500));
    assert!(
        !running.is_over(),
        "the descendant still holds stdout, so the run is not over"
    );
    running.signal(libc::SIGINT)?;
    let done = running.finish_within(GONE_LIMIT)?;
    assert_eq!(done.code(), 130, "{}", done.errors());
    cluster.no_stages(GONE_LIMIT)?;
    cluster.finish()
}

#[test]
fn a_stage_may_catch_the_interrupt() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    cluster.script(
        "catcher",
        "#!/bin/sh\ntrap 'echo caught; exit 3' INT\necho ready\nsleep 1000 >/dev/null 2>&1 & wait\n",
    )?;
    let running = cluster.run("catcher | cat").input(Input::Open).start()?;
    cluster.stages_run(3)?;
    let_pass(Duration::from_millis(300));
    running.signal(libc::SIGINT)?;
    let done = running.finish_within(GONE_LIMIT)?;
    // cat, in the foreground as well, died of it.
    assert!(done.output().starts_with("ready\n"), "{:?}", done.output());
    assert_eq!(done.code(), 130);
    cluster.no_stages(GONE_LIMIT)?;
    // Alone, it ends as it likes, and the command says what the record says.
    let running = cluster.run("catcher").input(Input::Open).start()?;
    cluster.stages_run(2)?;
    let_pass(Duration::from_millis(300));
    running.signal(libc::SIGINT)?;
    let done = running.finish_within(GONE_LIMIT)?.expect(3)?;
    assert_eq!(done.output(), "ready\ncaught\n");
    let run = wait_for("the run's record", Duration::from_secs(5), || {
        let runs = cluster.json(&["ps", "-a"])?;
        let last = runs
            .as_array()
            .and_then(|runs| runs.last())
            .cloned()
            .unwrap_or_default();
        anyhow::ensure!(last["line"] == "catcher" && last["state"] == "failed", "{runs}");
        Ok(last)
    })?;
    assert_eq!(run["status"], 3);
    cluster.finish()
}

#[test]
fn a_killed_cli_leaves_nothing() -> Result<()> {
    let cluster = cluster()?;
    for line in ["stubborn loud | cat", "stubborn quiet | cat"] {
        let running = cluster.run(line).input(Input::Endless).start()?;
        cluster.stages_run(STUBBORN_PROCESSES)?;
        running.signal(libc::SIGKILL)?;
        running.finish()?;
        cluster.no_stages(GONE_LIMIT)?;
    }
    cluster.finish()
}

#[test]
fn a_killed_agent_leaves_nothing_and_comes_back() -> Result<()> {
    let cluster = cluster()?;
    let line = "cat | stubborn loud | cat";
    let running = cluster
        .run(line)
        .placed(&["n1", "n2", "n3"])
        .through(0)
        .input(Input::Endless)
        .start()?;
    cluster.stages_run(STUBBORN_PROCESSES + 1)?;
    cluster.kill(1)?;
    cluster.no_stages(GONE_LIMIT)?;
    let done = running.finish_within(GONE_LIMIT)?;
    assert_eq!(done.code(), 125, "{}", done.errors());
    assert!(
        done.errors().contains("n2"),
        "the message names no server: {}",
        done.errors()
    );
    assert!(
        done.errors().contains("stubborn"),
        "the message names no stage: {}",
        done.errors()
    );
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    cluster.finish()
}

#[test]
fn a_run_begun_right_after_the_leaders_death_ends_rightly() -> Result<()> {
    let cluster = cluster()?;
    // Services of which every node has had a replica and the blob.
    for node in ["n1", "n2", "n3"] {
        cluster
            .run("echo x | cat")
            .placed(&[node, node])
            .finish()?
            .success()?;
    }
    let leader = cluster.leader()?;
    let stream = cluster
        .run("cat | stubborn loud")
        .through(leader)
        .input(Input::Endless)
        .start()?;
    cluster.stages_run(2)?;
    cluster.kill(leader)?;
    let begun = Instant::now();
    let done = cluster.run("echo still here | cat").finish()?.success()?;
    let took = begun.elapsed();
    assert_eq!(done.output(), "still here\n");
    assert!(took < AFTER_LEADER, "it took {took:?}");
    cluster.no_stages(GONE_LIMIT)?;
    let done = stream.finish_within(GONE_LIMIT)?;
    assert_eq!(done.code(), 125, "{}", done.errors());
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    cluster.finish()
}

#[test]
fn replicas_go_with_their_agent() -> Result<()> {
    let cluster = cluster()?;
    cluster
        .run("echo x | cat | cat")
        .placed(&["n1", "n2", "n3"])
        .finish()?
        .success()?;
    let agent = cluster.nodes[1].pid()?;
    let shims = pipes_chaos::proc::shims(agent);
    assert!(!shims.is_empty(), "no warm replica on n2");
    cluster.kill(1)?;
    wait_until("the dead agent's shims are gone", GONE_LIMIT, || {
        !shims.iter().any(|pid| pipes_chaos::proc::is_alive(*pid))
    })?;
    cluster.finish()
}
