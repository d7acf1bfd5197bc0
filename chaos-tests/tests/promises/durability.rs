//! What was acknowledged is there, whatever dies; what is read is never older than what was written.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use pipes_chaos::cluster::{Cluster, START_LIMIT};
use pipes_chaos::command::{self, Input, tool};
use pipes_chaos::store::{self, Client};
use pipes_chaos::wait::{let_pass, wait_for, wait_until};
use pipes_chaos::wamp::Outcome;

/// How often all agents are killed; `scripts/chaos` multiplies it.
const KILLS: usize = 5;
/// How often a stopped leader is asked for an old value.
const STALE_READS: usize = 20;

#[test]
fn what_was_acknowledged_outlives_the_death_of_all() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let acknowledged: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut services = Vec::new();
    for round in 0..crate::repetitions(KILLS) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| -> Result<()> {
            for writer in 0..3 {
                let (cluster, stop, acknowledged) = (&cluster, &stop, &acknowledged);
                scope.spawn(move || write_until(cluster, round, writer, stop, acknowledged));
            }
            let name = format!("service{round}");
            cluster.script(&name, &format!("#!/bin/sh\necho {round}\n"))?;
            services.push(name);
            let enough = (round + 1) * 50;
            let flowing = wait_until("writes are acknowledged", Duration::from_secs(20), || {
                acknowledged.lock().is_ok_and(|map| map.len() >= enough)
            });
            let killed = cluster.kill_all();
            stop.store(true, Ordering::Relaxed);
            flowing?;
            killed
        })?;
        cluster.start_again()?;
        cluster.all_up(START_LIMIT)?;
        let map = acknowledged
            .lock()
            .map_err(|_| anyhow::anyhow!("a writer panicked"))?;
        let mut client = cluster.store(round % 3)?;
        for (key, value) in map.iter() {
            let found = client.read(key)?;
            assert_eq!(
                found.as_deref(),
                Some(value.as_bytes()),
                "{key}, acknowledged and lost"
            );
        }
        println!("round {round}: {} acknowledged writes are there", map.len());
        for (number, name) in services.iter().enumerate() {
            let done = cluster.run(name).options(&["-n"]).finish()?.success()?;
            assert_eq!(done.output(), format!("{number}\n"), "{name}");
        }
    }
    cluster.finish()
}

fn write_until(
    cluster: &Cluster,
    round: usize,
    writer: usize,
    stop: &AtomicBool,
    acknowledged: &Mutex<BTreeMap<String, String>>,
) {
    let Ok(mut client) = cluster.store(writer) else {
        return;
    };
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let (key, value) = (
            format!("test/{round}/{writer}/{number}"),
            format!("{round}-{writer}-{number}"),
        );
        if client.put(&key, value.as_bytes()).is_err() {
            return;
        }
        if let Ok(mut map) = acknowledged.lock() {
            map.insert(key, value);
        }
    }
}

#[test]
fn a_put_is_on_two_disks_before_it_is_answered() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let leader = cluster.leader()?;
    let mut client = cluster.store(leader)?;
    client.put("test/warm", b"1")?;
    let mut traces = Vec::new();
    for node in 0..3 {
        let file = cluster.file(&format!("trace-{node}"));
        let mut strace = Command::new(tool("strace")?);
        strace
            .args(["-f", "-ttt", "-T", "-e", "trace=fsync,fdatasync", "-o"])
            .arg(&file);
        strace.args(["-p", &cluster.nodes[node].pid()?.to_string()]);
        let running = command::start(strace, Input::None)?;
        traces.push((running, file));
    }
    for node in &cluster.nodes {
        let pid = node.pid()?;
        wait_until("strace follows every agent", Duration::from_secs(10), || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status
                .lines()
                .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        })?;
    }
    // strace takes hold of an agent's threads one after another.
    let_pass(Duration::from_millis(500));
    let mut spans = Vec::new();
    for number in 0..5 {
        let begun = now()?;
        client.put(&format!("test/traced/{number}"), b"x")?;
        spans.push((begun, now()?));
        let_pass(Duration::from_millis(50));
    }
    let mut texts = Vec::new();
    for (running, file) in traces {
        running.signal(libc::SIGINT)?;
        running.finish_within(Duration::from_secs(10))?;
        texts.push(std::fs::read_to_string(file)?);
    }
    for (begun, answered) in spans {
        let synced: Vec<bool> = texts
            .iter()
            .map(|text| synced_between(text, begun, answered))
            .collect();
        // Which two is nobody's promise: two followers are a majority, though the leader's disk is slow.
        let disks = synced.iter().filter(|synced| **synced).count();
        assert!(disks >= 2, "it was answered with one disk's word: {synced:?}");
    }
    drop(client);
    cluster.finish()
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// Whether an fsync or fdatasync began and returned 0 in that time.
/// `813 1764000000.123456 fdatasync(9) = 0 <0.000812>`, or in two lines, `<unfinished ...>` and `resumed>`.
fn synced_between(trace: &str, begun: f64, answered: f64) -> bool {
    let mut open: BTreeMap<&str, f64> = BTreeMap::new();
    for line in trace.lines() {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(Ok(time))) = (words.next(), words.next().map(str::parse::<f64>)) else {
            continue;
        };
        let took = || line.rsplit_once('<')?.1.trim_end_matches('>').parse::<f64>().ok();
        let (start, end) = if line.contains("<unfinished") {
            open.insert(thread, time);
            continue;
        } else if line.contains("resumed>") {
            (open.remove(thread).unwrap_or(time), time)
        } else {
            (time, time + took().unwrap_or(0.0))
        };
        if line.contains("= 0") && start >= begun && end <= answered {
            return true;
        }
    }
    false
}

#[test]
fn a_leader_that_slept_never_answers_with_an_older_value() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let mut older = 0;
    for round in 0..crate::repetitions(STALE_READS) {
        let old = cluster.leader()?;
        let mut sleeper = cluster.store(old)?;
        let before = format!("old {round}");
        let after = format!("new {round}");
        wait_for("a write through the leader", START_LIMIT, || {
            sleeper.put("test/value", before.as_bytes())
        })?;
        // A session that is open while the leader stops: its request waits in the socket.
        cluster.pause(old)?;
        let other = (old + 1) % 3;
        write_elsewhere(&cluster, other, &after)?;
        let request = sleeper.begin_read("test/value")?;
        cluster.resume(old)?;
        match sleeper.outcome(request)? {
            Outcome::Done(result) => {
                let value = store::value(&result)?.context("a value")?;
                if value != after.as_bytes() {
                    older += 1;
                    println!("round {round}: read {:?}", String::from_utf8_lossy(&value));
                }
            }
            Outcome::Failed(uri, _) => println!("round {round}: refused, {uri}"),
        }
        wait_for("all agents agree on a leader", START_LIMIT, || {
            cluster.leader().map(|_| ())
        })?;
    }
    assert_eq!(older, 0, "a linearizable read gave an older value {older} times");
    cluster.finish()
}

/// Writes through another agent until one write was acknowledged by the next leader. A write that was given up
/// may still be applied, so each carries the same value.
fn write_elsewhere(cluster: &Cluster, node: usize, value: &str) -> Result<()> {
    wait_for("a newer write through the next leader", START_LIMIT, || {
        let mut client: Client = cluster.store(node)?;
        client.put("test/value", value.as_bytes())
    })
}
