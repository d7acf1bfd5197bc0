//! `pipes logs -f`: every line once and in order, or told how many were missed; and who waits costs nothing.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::{self, Finished, Input, Running};
use pipes_chaos::proc;
use pipes_chaos::wait::{let_pass, wait_for, wait_until};

/// Lines of a stage that is followed: 7 MB, six rotations.
const LINES: u64 = 200_000;
/// Lines of one that is followed too slowly: 28 MB, more than is kept and what may be on its way.
const TOO_MANY: u64 = 800_000;
/// How long a stage may take to have said half.
const HALF_LIMIT: Duration = Duration::from_secs(40);
const FOLLOWERS: usize = 10;
/// Followers are watched for so long.
const WATCHED: Duration = Duration::from_secs(4);
/// A tenth of a core, in clock ticks of which a second has 100.
const TICKS_MAX: u64 = 40;

/// Says numbered lines on stderr, in bursts: half when it is told to, then the rest when it is told to; then waits for the
/// end of its input.
const BURSTS: &str = "#!/bin/sh
say() {
    from=$1
    while [ $from -lt $2 ]; do
        seq -f 'line %06.0f of those that are said' $((from + 1)) $((from + 10000)) >&2
        from=$((from + 10000))
        sleep 0.02
    done
    echo $2 >>\"$3\"
}
read -r go
say 0 $(($1 / 2)) \"$2\"
read -r on
say $(($1 / 2)) $1 \"$2\"
cat >/dev/null
";

/// A run of `bursts`, through n1; its id.
fn begin(cluster: &Cluster, lines: u64, mark: &Path) -> Result<(Running, std::process::ChildStdin, String)> {
    let line = format!("bursts {lines} {}", mark.display());
    let run = cluster.run(&line).options(&["-q"]).input(Input::Open);
    let mut run = run.through(0).start()?;
    let stdin = run.take_stdin().context("its stdin")?;
    let id = wait_for("the run is listed", HALF_LIMIT, || {
        let runs = cluster.json(&["ps"])?;
        let runs = runs.as_array().context("a list")?;
        let ours = runs
            .iter()
            .find(|run| run["line"] == line && run["state"] == "running");
        Ok(ours.context("under way")?["id"]
            .as_str()
            .context("an id")?
            .to_owned())
    })?;
    Ok((run, stdin, id))
}

fn follow(cluster: &Cluster, through: usize, options: &[&str], id: &str) -> Result<Running> {
    let mut logs = cluster.pipes(&[&["logs", "-f"][..], options, &[id]].concat());
    logs.env("PIPES_AGENT", cluster.nodes[through].wamp());
    command::start(logs, Input::None)
}

fn until_said(lines: u64, mark: &Path) -> Result<()> {
    let line = lines.to_string();
    wait_until("so many lines are said", HALF_LIMIT, || {
        let said = std::fs::read_to_string(mark).unwrap_or_default();
        said.lines().any(|said| said == line)
    })?;
    Ok(())
}

/// The numbers of the lines shown.
fn numbers(shown: &Finished) -> Vec<u64> {
    let output = shown.output();
    let number = |line: &str| line.strip_prefix("line ")?.get(..6)?.parse().ok();
    output
        .lines()
        .map(|line| number(line).unwrap_or_default())
        .collect()
}

#[test]
fn who_follows_sees_every_line_once_or_is_told_what_was_missed() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.script("bursts", BURSTS)?;
    let mark = cluster.file("said");

    let (run, mut stdin, id) = begin(&cluster, LINES, &mark)?;
    let from_start = follow(&cluster, 1, &[], &id)?;
    writeln!(stdin, "go")?;
    until_said(LINES / 2, &mark)?;
    let from_middle = follow(&cluster, 2, &["--tail", "5"], &id)?;
    let after_the_fact = follow(&cluster, 0, &["--stage", "1"], &id)?;
    writeln!(stdin, "on")?;
    until_said(LINES, &mark)?;
    drop(stdin);
    run.finish()?.success()?;
    for follower in [from_start, after_the_fact] {
        let shown = follower.finish()?.success()?;
        assert!(shown.stderr.is_empty(), "{}", shown.errors());
        let numbers = numbers(&shown);
        assert_eq!(numbers.len() as u64, LINES);
        assert!(
            numbers.into_iter().eq(1..=LINES),
            "a line is missing, or is there twice"
        );
    }
    let shown = from_middle.finish()?.success()?;
    assert!(shown.stderr.is_empty(), "{}", shown.errors());
    let numbers = numbers(&shown);
    let first = *numbers.first().context("lines")?;
    assert!((LINES / 2 - 4..LINES).contains(&first), "{first}");
    assert!(numbers.into_iter().eq(first..=LINES));

    slow_readers_are_told(&cluster)?;
    followers_of_a_quiet_run_cost_little(&cluster)?;
    cluster.finish()
}

/// A follower that stands still while more is said than is kept.
fn slow_readers_are_told(cluster: &Cluster) -> Result<()> {
    let mark = cluster.file("said-fast");
    let (run, mut stdin, id) = begin(cluster, TOO_MANY, &mark)?;
    let follower = follow(cluster, 1, &[], &id)?;
    follower.signal(libc::SIGSTOP)?;
    writeln!(stdin, "go\non")?;
    until_said(TOO_MANY, &mark)?;
    follower.signal(libc::SIGCONT)?;
    drop(stdin);
    run.finish()?.success()?;
    let shown = follower.finish()?.success()?;
    let missed = |line: &str| -> Option<u64> {
        let lines = line.strip_prefix("warning: ")?.split_once(" lines (")?.0;
        lines.parse().ok()
    };
    let errors = shown.errors();
    let missed: u64 = errors.lines().filter_map(missed).sum();
    let seen = shown.stdout.iter().filter(|byte| **byte == b'\n').count() as u64;
    println!("{seen} lines seen, {missed} told as missed");
    assert!(missed > 0, "{errors}");
    assert_eq!(seen + missed, TOO_MANY, "{errors}");
    Ok(())
}

fn followers_of_a_quiet_run_cost_little(cluster: &Cluster) -> Result<()> {
    let mark = cluster.file("said-little");
    let (run, stdin, id) = begin(cluster, 0, &mark)?;
    let mut stdin = stdin;
    writeln!(stdin, "go\non")?;
    until_said(0, &mark)?;
    let followers = (0..FOLLOWERS).map(|number| -> Result<Child> {
        let mut logs = cluster.pipes(&["logs", "-f", &id]);
        logs.stdin(Stdio::null())
            .stdout(File::create(cluster.file(&format!("followed-{number}")))?);
        Ok(logs.spawn()?)
    });
    let mut followers: Vec<Child> = followers.collect::<Result<_>>()?;
    // Their first answers, and what the runs before left to do.
    let_pass(WATCHED / 2);
    let agents = cluster
        .nodes
        .iter()
        .map(|node| node.pid())
        .collect::<Result<Vec<_>>>()?;
    let ticks = || -> Result<Vec<u64>> { agents.iter().map(|pid| proc::processor_ticks(*pid)).collect() };
    let before = ticks()?;
    let_pass(WATCHED);
    let used: Vec<u64> = ticks()?
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    println!("{FOLLOWERS} followers: {used:?} ticks in {WATCHED:?}");
    assert!(used.iter().all(|ticks| *ticks < TICKS_MAX), "{used:?} ticks");
    drop(stdin);
    run.finish()?.success()?;
    for follower in &mut followers {
        assert!(follower.wait()?.success(), "a follower ends with its run");
    }
    Ok(())
}
