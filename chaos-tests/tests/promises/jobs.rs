//! Durable queries of a daemon workflow: accepted once, one result, whatever server dies; and the commands that show them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::{self, Finished, Input};
use pipes_chaos::wait::{let_pass, wait_for, wait_until};
use serde_json::Value;

/// How long a job may take to begin, or to go on at another agent: a lease ends in 3 s, an election takes 1 s more.
const TAKEN_LIMIT: Duration = Duration::from_secs(20);
/// More than lies in a key, and more than a window.
const LARGE: usize = 5 << 20;

/// Does as its input says, and says with which job and attempt.
const WORK: &str = "#!/bin/sh
read -r verb rest
case $verb in
kill)
    agent=$(awk '{ print $4 }' /proc/$PPID/stat)
    read -r name </proc/$agent/comm
    [ \"$name\" = pipes-agent ] && kill -9 $agent
    exec sleep 60
    ;;
job) echo \"$PIPES_JOB $PIPES_ATTEMPT\" ;;
status) echo \"status $rest\"; exit \"$rest\" ;;
wait) echo \"attempt $PIPES_ATTEMPT waits\" >&2; echo \"$PIPES_ATTEMPT\" >>\"$rest\"; while [ ! -e \"$rest.go\" ]; do sleep 0.05; done; echo done ;;
esac
";

/// A cluster with the workflows `work` and `copy`.
fn start(size: usize) -> Result<Cluster> {
    let cluster = Cluster::start(size)?;
    cluster.build(&["cat", "tr"])?;
    cluster.script("work", WORK)?;
    cluster.call(&["run", "-d", "--name", "work", "work | cat"])?;
    cluster.call(&["run", "-d", "--name", "copy", "cat"])?;
    Ok(cluster)
}

fn query(cluster: &Cluster, options: &[&str], data: &str) -> Result<Finished> {
    cluster.attempt(&[&["query"][..], options, &["--", data]].concat())
}

/// A job that is not waited for, through one agent.
fn submit(cluster: &Cluster, through: usize, data: &str) -> Result<String> {
    let mut pipes = cluster.pipes(&["query", "-w", "work", "--detach", data]);
    pipes.env("PIPES_AGENT", cluster.nodes[through].wamp());
    let id = command::run(pipes, Input::None)?.success()?.output();
    Ok(id.trim().to_owned())
}

fn job(cluster: &Cluster, id: &str) -> Result<Value> {
    let text = cluster.call(&["inspect", id])?;
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn a_query_is_answered_as_its_line_answers() -> Result<()> {
    let cluster = start(1)?;
    let said = query(&cluster, &["-w", "copy"], "some data")?.success()?;
    ensure!(said.output() == "some data\n", "{said:?}");
    let said = query(&cluster, &["-w", "copy", "-n"], "some data")?.success()?;
    ensure!(said.output() == "some data", "{said:?}");
    let failed = query(&cluster, &["-w", "work"], "status 3")?.expect(0)?;
    ensure!(
        failed.output() == "status 3\n",
        "the last stage's status counts: {failed:?}"
    );

    let input: Vec<u8> = (0..LARGE).map(|at| (at * 7 % 251) as u8).collect();
    let path = cluster.write("large", &input)?;
    let streamed = command::run(cluster.pipes(&["query", "-w", "copy", "-"]), Input::Cat(path))?.success()?;
    ensure!(
        streamed.stdout == input,
        "{} bytes came back",
        streamed.stdout.len()
    );

    let refused = query(&cluster, &[], "x")?.expect(125)?;
    ensure!(refused.errors().contains("several workflows run"), "{refused:?}");
    let refused = query(&cluster, &["-w", "none"], "x")?.expect(125)?;
    ensure!(
        refused.errors().contains("there is no workflow none"),
        "{refused:?}"
    );
    cluster.finish()
}

#[test]
fn a_job_is_shown_and_its_last_one_is_meant_where_none_is_named() -> Result<()> {
    let cluster = start(1)?;
    let id = submit(&cluster, 0, "job")?;
    let result = cluster.call(&["result"])?;
    ensure!(result == format!("{id} 1\n"), "{result} of {id}");
    let shown = job(&cluster, &id)?;
    ensure!(
        shown["state"] == "succeeded" && shown["status"] == 0 && shown["attempt"] == 1,
        "{shown}"
    );
    ensure!(
        shown["result"]["text"] == result && shown["stages"].as_array().is_some_and(|all| all.len() == 2),
        "{shown}"
    );
    let ending = &id[id.len() - 8..];
    ensure!(cluster.call(&["result", ending])? == result);
    let again = cluster.call(&["retry", &id])?;
    let again = again.trim();
    ensure!(cluster.call(&["result", again])? == format!("{again} 1\n"));
    ensure!(job(&cluster, again)?["retry_of"] == id.as_str());
    let listed = cluster.json(&["jobs", "-w", "work", "--state", "succeeded"])?;
    let ids = listed
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|job| job["id"].as_str());
    ensure!(ids.collect::<Vec<_>>() == [id.as_str(), again], "{listed}");
    let runs = cluster.json(&["ps", "-a"])?;
    let is_run = |object: &Value| object["id"].as_str().is_some_and(|id| id.starts_with('r'));
    ensure!(
        !runs.as_array().context("a list")?.iter().any(is_run),
        "a job leaves no run's record: {runs}"
    );
    cluster.finish()
}

#[test]
fn a_job_that_runs_shows_its_stages_and_what_they_say_at_every_agent() -> Result<()> {
    let cluster = start(3)?;
    let mark = cluster.file("mark");
    let id = submit(&cluster, 1, &format!("wait {}", mark.display()))?;
    wait_until("it runs", TAKEN_LIMIT, || mark.exists())?;
    for node in &cluster.nodes {
        let ask = |arguments: &[&str]| -> Result<String> {
            let mut pipes = cluster.pipes(arguments);
            pipes.env("PIPES_AGENT", node.wamp());
            Ok(command::run(pipes, Input::None)?.success()?.output())
        };
        let shown: Value = serde_json::from_str(&ask(&["inspect", &id])?)?;
        let stages = shown["stages"].as_array().context("a list")?;
        let services: Vec<_> = stages.iter().map(|stage| stage["service"].as_str()).collect();
        ensure!(services == [Some("work"), Some("cat")], "{shown}");
        ensure!(
            stages[0]["node"].is_string() && stages[0]["status"].is_null(),
            "{shown}"
        );
        wait_for("what it said", TAKEN_LIMIT, || {
            let said = ask(&["logs", &id])?;
            ensure!(said == "attempt 1 waits\n", "{said}");
            Ok(())
        })?;
    }
    ensure!(cluster.call(&["logs", "--stage", "cat", &id])?.is_empty());
    cluster.write("mark.go", b"")?;
    ensure!(cluster.call(&["result", &id])? == "done\n");
    let ending = &id[id.len() - 8..];
    ensure!(cluster.call(&["logs", ending])? == "attempt 1 waits\n");
    cluster.finish()
}

#[test]
fn ctrl_c_leaves_a_job_running_and_cancel_ends_it() -> Result<()> {
    let cluster = start(1)?;
    let mark = cluster.file("mark");
    let waits = format!("wait {}", mark.display());
    let asked = command::start(cluster.pipes(&["query", "-w", "work", &waits]), Input::None)?;
    wait_until("it runs", TAKEN_LIMIT, || mark.exists())?;
    asked.signal(libc::SIGINT)?;
    let asked = asked.finish()?.expect(128 + libc::SIGINT)?;
    let said = asked.errors();
    let (_, id) = said
        .trim()
        .rsplit_once("pipes result ")
        .with_context(|| said.clone())?;
    ensure!(job(&cluster, id)?["state"] == "running");
    let early = cluster.attempt(&["retry", id])?.expect(1)?;
    ensure!(early.errors().contains("has not ended yet"), "{early:?}");
    ensure!(cluster.call(&["cancel", id])?.trim() == id);
    ensure!(job(&cluster, id)?["state"] == "cancelled");
    ensure!(cluster.attempt(&["result", id])?.code() != 0);
    cluster.no_stages(TAKEN_LIMIT)?;
    cluster.finish()
}

#[test]
fn one_key_is_one_job_whichever_agent_is_asked() -> Result<()> {
    let cluster = start(3)?;
    let asked = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let cluster = &cluster;
            scope.spawn(move || -> Result<String> {
                let mut pipes = cluster.pipes(&["query", "-w", "work", "--detach", "--key", "k", "job"]);
                pipes.env("PIPES_AGENT", cluster.nodes[number % 3].wamp());
                Ok(command::run(pipes, Input::None)?.success()?.output())
            })
        };
        let asked: Vec<_> = (0..12).map(ask).collect();
        let joined = asked.into_iter().map(|one| one.join().expect("no panic"));
        joined.collect::<Result<BTreeSet<String>>>()
    })?;
    ensure!(asked.len() == 1, "{asked:?}");
    let other = query(&cluster, &["-w", "work", "--key", "k"], "other")?.expect(125)?;
    ensure!(
        other.errors().contains("the key was used with other input"),
        "{other:?}"
    );
    cluster.finish()
}

#[test]
fn jobs_of_a_server_that_dies_go_on_elsewhere() -> Result<()> {
    let cluster = start(3)?;
    let victim = 2;
    let mark = cluster.file("mark");
    let id = submit(&cluster, victim, &format!("wait {}", mark.display()))?;
    wait_until("it runs", TAKEN_LIMIT, || mark.exists())?;
    cluster.kill(victim)?;
    let attempts = || std::fs::read_to_string(&mark).unwrap_or_default();
    wait_until("another attempt began", TAKEN_LIMIT, || {
        attempts().lines().count() == 2
    })?;
    cluster.write("mark.go", b"")?;
    ensure!(cluster.call(&["result", &id])? == "done\n");
    ensure!(attempts() == "1\n2\n", "each attempt began once: {}", attempts());
    let shown = job(&cluster, &id)?;
    ensure!(shown["attempt"] == 2 && shown["state"] == "succeeded", "{shown}");
    cluster.start_again()?;
    cluster.finish()
}

#[test]
fn a_server_that_stops_in_order_hands_its_jobs_over() -> Result<()> {
    let cluster = start(3)?;
    let mark = cluster.file("mark");
    let id = submit(&cluster, 2, &format!("wait {}", mark.display()))?;
    wait_until("it runs", TAKEN_LIMIT, || mark.exists())?;
    pipes_chaos::proc::signal(cluster.nodes[2].pid()?, libc::SIGTERM)?;
    wait_for("the next attempt", TAKEN_LIMIT, || {
        let shown = job(&cluster, &id)?;
        ensure!(shown["attempt"] == 2, "{shown}");
        Ok(())
    })?;
    cluster.write("mark.go", b"")?;
    ensure!(cluster.call(&["result", &id])? == "done\n");
    cluster.start_again()?;
    cluster.finish()
}

/// Clients that submit while agents die, and what each rests between two queries: enough that some job is in every state
/// at each death, and few enough for a slow machine.
const CLIENTS: usize = 4;
const PACE: Duration = Duration::from_millis(40);

/// Calls a procedure at whichever agent answers, one after another.
fn call_any(
    cluster: &Cluster,
    first: usize,
    uri: &str,
    arguments: &[(&str, rmpv::Value)],
) -> Result<rmpv::Value> {
    let mut next = first;
    wait_for(uri, TAKEN_LIMIT, || {
        next = (next + 1) % cluster.nodes.len();
        let mut session = cluster.nodes[next].operator()?;
        let answer = session.call(uri, vec![], arguments.to_vec())?.done()?;
        answer.into_iter().next().context("an answer")
    })
}

#[test]
fn every_job_has_its_one_result_while_agents_are_killed_in_turn() -> Result<()> {
    let cluster = start(3)?;
    let is_over = AtomicBool::new(false);
    let submitted = std::thread::scope(|scope| -> Result<Vec<(String, String)>> {
        let (cluster, is_over) = (&cluster, &is_over);
        let client = |client: usize| {
            scope.spawn(move || -> Result<Vec<(String, String)>> {
                let mut ids = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let input = format!("input {} of {client}", ids.len());
                    // With a key it may be sent again where the answer was lost.
                    let arguments = [
                        ("workflow", "copy".into()),
                        ("key", input.as_str().into()),
                        ("input", input.as_str().into()),
                    ];
                    let job = call_any(cluster, ids.len(), "pipes.job.submit", &arguments)?;
                    ids.push((job["id"].as_str().context("an ID")?.to_owned(), input));
                    let_pass(PACE);
                }
                Ok(ids)
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        let faults = [1, 0].iter().try_for_each(|victim| {
            cluster.kill(*victim)?;
            cluster.start_again()
        });
        is_over.store(true, Ordering::Relaxed);
        let ids = clients.into_iter().map(|client| client.join().expect("no panic"));
        let ids = ids.collect::<Result<Vec<_>>>()?.concat();
        faults.map(|()| ids)
    })?;
    for (number, (id, input)) in submitted.iter().enumerate() {
        let arguments = [("id", id.as_str().into()), ("wait", 20.into())];
        let job = call_any(&cluster, number, "pipes.job.get", &arguments)?;
        ensure!(job["state"].as_str() == Some("succeeded"), "{job}");
        ensure!(job["result"]["text"].as_str() == Some(input), "{job}");
    }
    let listed = cluster.call(&["jobs", "-w", "copy", "-q"])?;
    let listed: BTreeSet<&str> = listed.lines().collect();
    let accepted: BTreeSet<&str> = submitted.iter().map(|(id, _)| id.as_str()).collect();
    ensure!(
        listed == accepted && listed.len() == submitted.len(),
        "{} jobs are listed",
        listed.len()
    );
    cluster.finish()
}

/// How long three servers may take to be ended, started again and missed.
const THREE_DEATHS_LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_job_that_ends_each_server_that_runs_it_fails_and_its_neighbour_does_not() -> Result<()> {
    let cluster = start(3)?;
    let mark = cluster.file("mark");
    let neighbour = submit(&cluster, 1, &format!("wait {}", mark.display()))?;
    wait_until("it runs", TAKEN_LIMIT, || mark.exists())?;
    let deadly = submit(&cluster, 1, "kill")?;
    let shown = wait_for("the job is given up", THREE_DEATHS_LIMIT, || {
        cluster.start_again()?;
        let shown = job(&cluster, &deadly)?;
        if shown["attempt"] == 2 && shown["state"] == "queued" {
            // After two losses it waits until no other job is on its node.
            cluster.write("mark.go", b"")?;
        }
        ensure!(shown["state"] == "failed", "{shown}");
        Ok(shown)
    })?;
    ensure!(shown["attempt"] == 3 && shown["status"] == 125, "{shown}");
    let reason = shown["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("each of the 3 servers that ran it ended"),
        "{shown}"
    );
    cluster.start_again()?;
    // It may not have had to wait for that.
    cluster.write("mark.go", b"")?;
    ensure!(cluster.call(&["result", &neighbour])? == "done\n");
    cluster.finish()
}
