//! Workflows that stay up, as `pipes` makes, shows, changes and forgets them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::{Cluster, START_LIMIT};
use pipes_chaos::command::{self, Finished, Input};
use pipes_chaos::wait::wait_for;
use pipes_chaos::wamp::map;
use serde_json::Value;

const WORKFLOW: &[&str] = &["name", "line", "state", "reason", "port", "addresses", "stages"];
const STAGE: &[&str] = &["stage", "service", "digest", "args", "replicas", "ready"];

/// A command that must end with this status and say this on stderr.
fn refused(cluster: &Cluster, arguments: &[&str], status: i32, said: &str) -> Result<Finished> {
    let done = cluster.attempt(arguments)?.expect(status)?;
    let errors = done.errors();
    ensure!(
        errors.starts_with("error: ") && errors.contains(said),
        "{arguments:?}: {errors:?} without {said:?}"
    );
    Ok(done)
}

fn names(cluster: &Cluster, arguments: &[&str]) -> Result<Vec<String>> {
    let listed = cluster.call(&[arguments, &["-q"]].concat())?;
    Ok(listed.lines().map(str::to_owned).collect())
}

fn digest(workflow: &Value) -> String {
    workflow["stages"][0]["digest"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_workflow_that_stays_up_is_shown_alike_by_every_agent() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "sort"])?;
    let begun = cluster
        .attempt(&["run", "-d", "--name", "words", "cat | sort -n"])?
        .expect(0)?;
    ensure!(begun.output() == "words\n", "its name: {:?}", begun.output());
    for node in &cluster.nodes {
        let address = format!("http://{}:7100/", node.address);
        ensure!(
            begun.errors().lines().any(|line| line == address),
            "{address}: {}",
            begun.errors()
        );
    }
    ensure!(
        begun.errors().contains("every user and program of this machine"),
        "{}",
        begun.errors()
    );

    let listed = cluster.json(&["ps"])?;
    let workflow = listed.get(0).context("it is not listed")?;
    for field in WORKFLOW {
        ensure!(workflow.get(field).is_some(), "no field {field} in {workflow}");
    }
    ensure!(
        workflow["state"] == "running" && workflow["port"] == 7100,
        "{workflow}"
    );
    let stages = workflow["stages"].as_array().context("stages")?;
    ensure!(stages.len() == 2, "{workflow}");
    for field in STAGE {
        ensure!(stages[1].get(field).is_some(), "no field {field} in {workflow}");
    }
    ensure!(
        stages[1]["args"][0] == "-n" && stages[1]["replicas"] == 1,
        "{workflow}"
    );

    ensure!(cluster.call(&["scale", "words", "sort=3"])? == "words\n");
    for node in &cluster.nodes {
        let mut elsewhere = cluster.pipes(&["inspect", "words"]);
        elsewhere.env("PIPES_AGENT", &node.address);
        let shown = command::run(elsewhere, Input::None)?.success()?.output();
        let shown: Value = serde_json::from_str(&shown)?;
        ensure!(shown["stages"][1]["replicas"] == 3, "at {}: {shown}", node.name);
    }
    let table = cluster.call(&["inspect", "--format", "table", "workflow/words"])?;
    ensure!(table.contains("READY") && table.contains("sort"), "{table}");
    cluster.finish()
}

#[test]
fn a_workflow_is_stopped_started_and_forgotten_and_outlives_its_agents() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "sort"])?;
    cluster.call(&["run", "-d", "--name", "words", "--replicas", "2=3", "cat | sort"])?;
    refused(&cluster, &["rm", "words"], 1, "pipes stop words")?;
    ensure!(cluster.call(&["stop", "words"])? == "words\n");
    ensure!(names(&cluster, &["ps"])?.is_empty(), "a stopped one does not run");
    ensure!(names(&cluster, &["ps", "-a"])? == ["words"]);
    ensure!(cluster.json(&["inspect", "words"])?["state"] == "stopped");
    cluster.call(&["start", "workflow/words"])?;
    ensure!(names(&cluster, &["ps"])? == ["words"]);

    cluster.kill_all()?;
    cluster.start_again()?;
    let again = wait_for("it is there after all were killed", START_LIMIT, || {
        cluster.json(&["inspect", "words"])
    })?;
    ensure!(
        again["state"] == "running" && again["stages"][1]["replicas"] == 3,
        "{again}"
    );

    cluster.call(&["rm", "--force", "words"])?;
    refused(
        &cluster,
        &["inspect", "words"],
        1,
        "there is no workflow, run or service 'words'",
    )?;
    refused(&cluster, &["start", "words"], 1, "there is no workflow words")?;
    cluster.finish()
}

#[test]
fn names_and_ports_are_given_and_never_twice() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat"])?;
    let begin = |options: &[&str]| -> Result<Finished> {
        cluster
            .attempt(&[&["run", "-d"], options, &["cat"]].concat())?
            .expect(0)
    };
    for (options, name, address) in [
        (&[][..], "cat", ":7100/"),
        (&[], "cat-2", ":7101/"),
        (&["--port", "none"], "cat-3", ":7080/cat-3/"),
        (&["--port", "7105", "--name", "own"], "own", ":7105/"),
    ] {
        let begun = begin(options)?;
        ensure!(begun.output().trim() == name, "{options:?}: {}", begun.output());
        ensure!(
            begun.errors().contains(address),
            "{options:?}: {}",
            begun.errors()
        );
    }
    refused(
        &cluster,
        &["run", "-d", "--name", "own", "cat"],
        125,
        "pipes update own",
    )?;
    refused(
        &cluster,
        &["run", "-d", "--port", "7105", "cat"],
        125,
        "it is workflow own's",
    )?;
    refused(
        &cluster,
        &["run", "-d", "--port", "7071", "cat"],
        125,
        "the agents use it themselves",
    )?;
    refused(
        &cluster,
        &["run", "-d", "--name", "Own", "cat"],
        125,
        "cannot be a workflow's name",
    )?;
    refused(&cluster, &["inspect", "onw"], 1, "did you mean own?")?;
    refused(&cluster, &["stop", "onw"], 1, "did you mean own?")?;
    refused(&cluster, &["scale", "onw", "1=2"], 1, "did you mean own?")?;
    cluster.finish()
}

#[test]
fn a_name_that_is_both_is_asked_about_and_a_token_is_shown_once() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat"])?;
    let begin = |options: &[&str]| -> Result<Finished> {
        cluster
            .attempt(&[&["run", "-d"], options, &["cat"]].concat())?
            .expect(0)
    };
    begin(&[])?;
    begin(&[])?;
    refused(&cluster, &["inspect", "cat"], 2, "workflow/cat or service/cat")?;
    ensure!(cluster.json(&["inspect", "workflow/cat"])?["port"] == 7100);
    ensure!(cluster.json(&["inspect", "service/cat"])?["kind"] == "elf");
    refused(
        &cluster,
        &["service", "rm", "cat"],
        1,
        "used by workflow cat, cat-2",
    )?;

    let path = cluster.write("token", b"a-token-of-ours\n")?;
    let with_token = begin(&["--token-file", &path.to_string_lossy()])?;
    ensure!(
        !with_token.errors().contains("token"),
        "it is not shown: {}",
        with_token.errors()
    );
    let made = begin(&["--token"])?;
    ensure!(made.errors().contains("token: pipes_"), "{}", made.errors());
    cluster.finish()
}

#[test]
fn an_update_takes_new_versions_and_a_rollback_the_former_ones() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    cluster.script("greet", "#!/bin/sh\necho old\n")?;
    cluster.call(&["run", "-d", "--name", "w", "--env", "A=1", "greet"])?;
    let old = digest(&cluster.json(&["inspect", "w"])?);
    cluster.script("greet", "#!/bin/sh\necho new\n")?;
    ensure!(
        digest(&cluster.json(&["inspect", "w"])?) == old,
        "it keeps the version it was started with"
    );

    ensure!(cluster.call(&["update", "w"])? == "w\n");
    let updated = cluster.json(&["inspect", "w"])?;
    ensure!(digest(&updated) != old && updated["revision"] == 2, "{updated}");
    wait_for("its replica is kept", Duration::from_secs(5), || {
        let shown = cluster.json(&["inspect", "w"])?;
        ensure!(shown["stages"][0]["ready"] == 1, "{shown}");
        Ok(())
    })?;

    cluster.call(&["update", "w", "greet | cat", "--replicas", "2=2"])?;
    let updated = wait_for("the new stages are ready", Duration::from_secs(5), || {
        let shown = cluster.json(&["inspect", "w"])?;
        ensure!(shown["stages"][1]["ready"].as_u64() >= Some(1), "{shown}");
        Ok(shown)
    })?;
    ensure!(updated["stages"][1]["replicas"] == 2, "{updated}");

    // What cannot be meant changes nothing.
    refused(
        &cluster,
        &["update", "w", "greet | nosuch"],
        1,
        "unknown service 'nosuch'",
    )?;
    refused(&cluster, &["update", "w", "greet >x"], 1, "greet >x\n        ^")?;
    refused(
        &cluster,
        &["update", "w", "--place", "7=n1"],
        2,
        "the line has 2 stages",
    )?;
    refused(&cluster, &["update", "w", "--rollback", "cat"], 2, "--rollback")?;
    ensure!(cluster.json(&["inspect", "w"])?["revision"] == 3);

    for line in ["greet", "greet"] {
        cluster.call(&["update", "w", "--rollback"])?;
        ensure!(cluster.json(&["inspect", "w"])?["line"] == line);
    }
    ensure!(digest(&cluster.json(&["inspect", "w"])?) == old);
    refused(
        &cluster,
        &["update", "w", "--rollback"],
        2,
        "nothing to be rolled back to",
    )?;
    cluster.finish()
}

#[test]
fn an_option_that_is_not_carried_out_is_refused() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat"])?;
    for (option, said) in [
        (&["--every", "1m"][..], "--every cannot be carried out yet"),
        (&["--cron", "* * * * *"], "--cron cannot be carried out yet"),
        (&["--tz", "UTC"], "--tz cannot be carried out yet"),
        (
            &["--callback", "http://127.0.0.1/"],
            "--callback cannot be carried out yet",
        ),
        (
            &["--memory", "1g"],
            "--memory asks for more than the executor process",
        ),
        (&["--fresh"], "leave out --fresh or -d"),
        (&["--report", "r.json"], "leave out --report or -d"),
        (&["-n"], "leave out -n or -d"),
        (&["--replicas", "2=3"], "--replicas 2: the line has 1 stage"),
        (&["--place", "1=n9"], "there is no node n9"),
    ] {
        let arguments = [&["run", "-d"], option, &["cat"]].concat();
        refused(&cluster, &arguments, 125, said)?;
    }
    for option in [
        &["--name", "w"][..],
        &["--replicas", "1=2"],
        &["--list"],
        &["--keep", "1h"],
        &["--cron", "x"],
    ] {
        let arguments = [&["run", "-n"], option, &["cat"]].concat();
        refused(&cluster, &arguments, 125, "give -d as well")?;
    }
    refused(
        &cluster,
        &["run", "-d", "nosuch"],
        127,
        "unknown service 'nosuch'",
    )?;
    refused(&cluster, &["run", "-d", "cat | "], 125, "cat | ")?;
    ensure!(
        names(&cluster, &["ps", "-a"])?.is_empty(),
        "none of them was taken up"
    );
    cluster.finish()
}

#[test]
fn the_logs_of_a_workflow_are_what_its_requests_said() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.script("say", "#!/bin/sh\necho \"said $1\" >&2\n")?;
    cluster.call(&["run", "-d", "--name", "w", "say"])?;
    let mut session = cluster.nodes[0].operator()?;
    for (argument, workflow) in [("first", "w"), ("other", "v"), ("second", "w")] {
        let line = format!("say {argument}");
        let options = map(vec![("workflow", workflow.into())]);
        let keywords = vec![("line", line.as_str().into()), ("options", options)];
        session.call("pipes.run.start", Vec::new(), keywords)?.done()?;
    }
    wait_for("both are on record", Duration::from_secs(5), || {
        let logs = cluster.call(&["logs", "w"])?;
        ensure!(logs == "said first\nsaid second\n", "{logs:?}");
        Ok(())
    })?;
    refused(&cluster, &["logs", "vv"], 1, "there is no workflow or run vv")?;
    cluster.finish()
}
