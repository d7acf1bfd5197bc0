//! A replica that applied an entry differently is out, and a whole member again after a reset, while others write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::{Cluster, START_LIMIT};
use pipes_chaos::command::{self, Input};
use pipes_chaos::proc;
use pipes_chaos::wait::{wait_for, wait_until};

/// From the write to be seen until the node is known to be sick.
const OUT_LIMIT: Duration = Duration::from_secs(2);
/// From the reset until it is a whole member.
const WHOLE_LIMIT: Duration = Duration::from_secs(30);
/// The switch that an agent with debug assertions has.
const SWITCH: &str = "PIPES_APPLY_DIFFERENTLY";

#[test]
fn a_follower_that_applied_an_entry_differently_is_out_and_whole_after_a_reset() -> Result<()> {
    differ(false)
}

#[test]
fn a_leader_that_applied_an_entry_differently_is_out_and_whole_after_a_reset() -> Result<()> {
    differ(true)
}

#[test]
fn with_all_three_different_writes_are_refused_and_status_says_what_to_do() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.store(0)?.put("test/before", b"same")?;
    switch(&cluster, 0, "test/differ=one")?;
    switch(&cluster, 1, "test/differ=other")?;
    let mut client = cluster.store(2)?;
    // It is applied everywhere before anybody can know.
    let _ = client.put("test/differ", b"same");
    let begun = Instant::now();
    let refused = wait_for("writes are refused", START_LIMIT, || {
        match cluster.store(2)?.put("test/after", b"late") {
            Ok(()) => anyhow::bail!("not yet"),
            Err(error) => Ok(format!("{error:#}")),
        }
    })?;
    ensure!(begun.elapsed() < OUT_LIMIT, "refused after {:?}", begun.elapsed());
    ensure!(
        refused.contains("no majority of them agrees") && refused.contains("pipes node reset NAME"),
        "{refused}"
    );
    let status = cluster.call(&["cluster", "status"])?;
    ensure!(status.contains("pipes node reset NAME"), "{status}");

    // An operator decides for the third.
    for node in [0, 1] {
        cluster.call(&["node", "reset", &cluster.nodes[node].name])?;
    }
    cluster.all_up(WHOLE_LIMIT)?;
    let value = wait_for("a read", START_LIMIT, || cluster.store(0)?.read("test/differ"))?;
    ensure!(value.as_deref() == Some(b"same"), "{value:?}");
    wait_for("writes are taken", START_LIMIT, || {
        cluster.store(1)?.put("test/after", b"1")
    })?;
    cluster.finish()
}

fn differ(is_leader: bool) -> Result<()> {
    let cluster = Cluster::start(3)?;
    let odd = if is_leader {
        lead_switched(&cluster)?
    } else {
        let follower = (cluster.leader()? + 1) % 3;
        switch(&cluster, follower, "test/differ=other")?;
        follower
    };
    let others = [(odd + 1) % 3, (odd + 2) % 3];
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for node in others {
            let (cluster, stop, written) = (&cluster, &stop, &written);
            scope.spawn(move || write_until(cluster, node, stop, written));
        }
        let through = out_and_whole_again(&cluster, odd, &written);
        stop.store(true, Ordering::Relaxed);
        through
    })?;
    let checked = cluster.call(&["cluster", "check"])?;
    ensure!(checked.contains("n1, n2, n3 hold the same"), "{checked}");
    cluster.finish()
}

fn out_and_whole_again(cluster: &Cluster, odd: usize, written: &AtomicU64) -> Result<()> {
    let name = &cluster.nodes[odd].name;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        // The leader that answers may be the one that is out before it could.
        scope.spawn(|| {
            drop(
                cluster
                    .store((odd + 1) % 3)
                    .map(|mut store| store.put("test/differ", b"same")),
            )
        });
        wait_for("it is out", START_LIMIT, || {
            let log = cluster.nodes[odd].log();
            ensure!(log.contains("this node's replica is taken out"), "not yet");
            Ok(())
        })?;
        ensure!(begun.elapsed() < OUT_LIMIT, "out after {:?}", begun.elapsed());
        Ok(())
    })?;
    let reason = wait_for("it is said to be sick", START_LIMIT, || {
        let node = named(cluster, name)?;
        ensure!(node["state"] == "sick", "{node}");
        Ok(node["reason"].as_str().unwrap_or_default().to_owned())
    })?;
    ensure!(
        reason.contains("differs from those of the majority") && reason.contains("pipes node reset"),
        "{reason}"
    );
    for node in 0..3 {
        let value = wait_for("a read", START_LIMIT, || cluster.store(node)?.read("test/differ"))?;
        ensure!(value.as_deref() == Some(b"same"), "{value:?} at n{}", node + 1);
    }
    let before = written.load(Ordering::Relaxed);
    let begun = Instant::now();
    cluster.call(&["node", "reset", name])?;
    wait_for("it is whole", WHOLE_LIMIT, || {
        let node = named(cluster, name)?;
        ensure!(
            node["state"] == "up" && (node["role"] == "voter" || node["role"] == "leader"),
            "{node}"
        );
        Ok(())
    })?;
    println!("{name} was a whole member after {:.1?}", begun.elapsed());
    ensure!(
        written.load(Ordering::Relaxed) > before,
        "nothing was written meanwhile"
    );
    Ok(())
}

/// The node of this name, of which there is one.
fn named(cluster: &Cluster, name: &str) -> Result<serde_json::Value> {
    let nodes = cluster.json(&["node", "ls"])?;
    let all = nodes.as_array().context("an array")?;
    let named: Vec<_> = all.iter().filter(|node| node["name"] == name).collect();
    ensure!(named.len() == 1, "{nodes}");
    Ok(named[0].clone())
}

/// Starts a node again that writes another value for a key, as `KEY=VALUE` says.
fn switch(cluster: &Cluster, node: usize, put: &str) -> Result<()> {
    cluster.kill(node)?;
    let mut command = cluster.pipes(&["cluster", "start"]);
    command.env(SWITCH, put);
    command::start(command, Input::None)?
        .finish_within(START_LIMIT)?
        .success()?;
    cluster.all_up(START_LIMIT)
}

/// Has a node lead that has the switch, and no other: a leader that stops in order hands over to the newest of those that
/// have all entries.
fn lead_switched(cluster: &Cluster) -> Result<usize> {
    let mut newest = (0, 0);
    for (number, node) in cluster.nodes.iter().enumerate() {
        let id = named(cluster, &node.name)?["id"].as_u64();
        newest = newest.max((id.context("an id")?, number));
    }
    let odd = newest.1;
    switch(cluster, odd, "test/differ=other")?;
    for _ in 0..10 {
        let leader = cluster.leader()?;
        if leader == odd {
            return Ok(odd);
        }
        let pid = cluster.nodes[leader].pid()?;
        proc::signal(pid, libc::SIGTERM)?;
        wait_until("the leader has stopped", START_LIMIT, || proc::is_gone(pid))?;
        cluster.start_again()?;
        cluster.all_up(START_LIMIT)?;
    }
    anyhow::bail!("n{} never led", odd + 1)
}

fn write_until(cluster: &Cluster, node: usize, stop: &AtomicBool, written: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = cluster.store(node) else {
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let serial = written.load(Ordering::Relaxed);
            if client.put(&format!("test/{serial:06}"), b"load").is_err() {
                break;
            }
            written.fetch_add(1, Ordering::Relaxed);
        }
    }
}
