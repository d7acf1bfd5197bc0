//! Slots end with the calls that have them, and work goes where there is room.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::Running;
use pipes_chaos::fault;
use pipes_chaos::wait::{let_pass, wait_until};

use crate::repetitions;

/// Runs while links are lost.
const RUNS: usize = 200;
/// That are under way at once.
const RUNS_AT_ONCE: usize = 16;
/// Every pair of agents is reset so often.
const RESETS: usize = 11;
/// What an agent logs of a new link.
const LINKED: &str = "linked";
/// Losses that both ends count together, at the least.
const LOSSES_MIN: usize = 60;
/// How long a run may take when agents stand still for 12 s.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// Within this all slots are free after the last run.
const FREE_LIMIT: Duration = Duration::from_secs(10);

/// Settings of the cluster.
fn set(cluster: &Cluster, settings: &[&str]) -> Result<()> {
    for setting in settings {
        cluster.call(&["cluster", "set", setting])?;
    }
    Ok(())
}

fn slots_used(cluster: &Cluster) -> Vec<u64> {
    let used = cluster.nodes.iter().map(|node| node.slots_used());
    used.map(|used| used.unwrap_or(u64::MAX)).collect()
}

fn all_free(cluster: &Cluster) -> Result<()> {
    wait_until("every slot is free", FREE_LIMIT, || {
        slots_used(cluster) == vec![0; cluster.nodes.len()]
    })
    .with_context(|| format!("in use: {:?}", slots_used(cluster)))?;
    Ok(())
}

/// How often agents have logged this.
fn counted(cluster: &Cluster, what: &str) -> usize {
    let logs = cluster.nodes.iter().map(|node| node.log());
    logs.map(|log| log.matches(what).count()).sum()
}

fn losses(cluster: &Cluster) -> usize {
    counted(cluster, "a link is lost")
}

#[test]
fn links_lost_and_healed_under_runs_leave_every_slot_free() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sh", "cat", "sleep"])?;
    set(&cluster, &["slots=8", "replicas=1"])?;
    let (begun, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| -> Result<()> {
        let runners: Vec<_> = (0..RUNS_AT_ONCE)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let number = begun.fetch_add(1, Ordering::Relaxed);
                        if number >= RUNS && is_over.load(Ordering::Relaxed) {
                            return Ok(());
                        }
                        let line = "sh -c 'sleep 0.2; echo x' | cat | cat";
                        let run = cluster.run(line).through(number % 3);
                        let done = run.start()?.finish_within(RUN_LIMIT)?;
                        // One that was lost says so, and whoever could not reach its agent.
                        assert!(
                            [0, 125].contains(&done.code()),
                            "{} {}",
                            done.code(),
                            done.errors()
                        );
                    }
                })
            })
            .collect();
        let broken = break_links(&cluster);
        is_over.store(true, Ordering::Relaxed);
        for runner in runners {
            runner
                .join()
                .map_err(|_| anyhow::anyhow!("a runner panicked"))??;
        }
        broken
    })?;
    let lost = losses(&cluster);
    println!("{} runs, {lost} losses", begun.load(Ordering::Relaxed));
    assert!(lost >= LOSSES_MIN, "only {lost} losses");
    all_free(&cluster)?;
    let all: Vec<Running> = (0..24)
        .map(|_| cluster.run("sleep 2").start())
        .collect::<Result<_>>()?;
    wait_until("every slot is taken", FREE_LIMIT, || {
        slots_used(&cluster) == [8, 8, 8]
    })
    .with_context(|| format!("in use: {:?}", slots_used(&cluster)))?;
    for run in all {
        run.finish()?.success()?;
    }
    all_free(&cluster)?;
    cluster.finish()
}

/// Resets from either side and from both, silence of 4 s, agents that stand still for 2 and for 12 s.
fn break_links(cluster: &Cluster) -> Result<()> {
    let address = |node: usize| cluster.nodes[node].address.as_str();
    for round in 0..repetitions(RESETS) {
        let (lost, linked) = (losses(cluster), counted(cluster, LINKED));
        for (one, other) in [(0, 1), (1, 2), (2, 0)] {
            if round % 3 != 1 {
                fault::reset(address(one), address(other))?;
            }
            if round % 3 != 0 {
                fault::reset(address(other), address(one))?;
            }
        }
        wait_until("links are lost, and back", FREE_LIMIT, || {
            losses(cluster) > lost && counted(cluster, LINKED) > linked
        })?;
    }
    cluster.pause(2)?;
    let paused = Instant::now();
    let cut = cluster.cut(0, 1)?;
    let_pass(Duration::from_secs(4));
    cut.heal()?;
    let_pass(Duration::from_secs(2));
    cluster.pause(1)?;
    let_pass(Duration::from_secs(2));
    cluster.resume(1)?;
    let_pass(Duration::from_secs(12).saturating_sub(paused.elapsed()));
    cluster.resume(2)
}

/// How many of these runs' first stages were on each node.
fn spread(cluster: &Cluster, line: &str) -> Result<BTreeMap<String, usize>> {
    let mut spread = BTreeMap::new();
    for run in cluster.json(&["ps", "-a"])?.as_array().context("an array")? {
        if run["line"] == line {
            let node = run["stages"][0]["node"].as_str().unwrap_or("none").to_owned();
            *spread.entry(node).or_default() += 1;
        }
    }
    Ok(spread)
}

fn start(cluster: &Cluster, line: &str, count: usize) -> Result<Vec<Running>> {
    (0..count).map(|_| cluster.run(line).start()).collect()
}

#[test]
fn runs_begun_at_once_are_even_and_leave_a_busy_node_alone() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sleep"])?;
    for run in start(&cluster, "sleep 1", 60)? {
        run.finish()?.success()?;
    }
    let even = spread(&cluster, "sleep 1")?;
    println!("60 at once: {even:?}");
    assert!(even.values().all(|count| *count <= 24), "{even:?}");
    assert_eq!(even.values().sum::<usize>(), 60, "{even:?}");
    let long: Vec<Running> = (0..30)
        .map(|_| cluster.run("sleep 600").placed(&["n1"]).start())
        .collect::<Result<_>>()?;
    wait_until("they run", FREE_LIMIT, || slots_used(&cluster)[0] == 30)?;
    for run in start(&cluster, "sleep 1.5", 30)? {
        run.finish()?.success()?;
    }
    let busy = spread(&cluster, "sleep 1.5")?;
    println!("30 beside 30 on n1: {busy:?}");
    assert!(busy.get("n1").copied().unwrap_or(0) <= 3, "{busy:?}");
    for run in &long {
        run.signal(libc::SIGINT)?;
    }
    for run in long {
        run.finish()?.expect(130)?;
    }
    all_free(&cluster)?;
    cluster.finish()
}

#[test]
fn runs_take_the_first_slot_that_frees_anywhere_and_no_line_is_overtaken_for_ever() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sleep", "date"])?;
    set(&cluster, &["slots=1", "replicas=1"])?;
    let begun = Instant::now();
    let three = start(&cluster, "sleep 3", 3)?;
    wait_until("three run", FREE_LIMIT, || slots_used(&cluster) == [1, 1, 1])?;
    let took = begun.elapsed();
    println!("three at once run after {took:?}");
    assert!(took < Duration::from_secs(3), "three at once run after {took:?}");
    for run in three {
        run.finish()?.success()?;
    }
    let begun = Instant::now();
    for run in start(&cluster, "sleep 1", 9)? {
        run.finish()?.success()?;
    }
    let took = begun.elapsed();
    println!("nine took {took:?}");
    // One after another they would take 9 s.
    assert!(took < Duration::from_secs(7), "nine took {took:?}");
    overtake(&cluster)?;
    all_free(&cluster)?;
    cluster.finish()
}

/// Keeps all slots taken by short lines, and counts those that are begun after a long one and start before it.
fn overtake(cluster: &Cluster) -> Result<()> {
    set(cluster, &["replicas=2"])?;
    let (begun_after, is_long_begun, is_over) = (
        AtomicUsize::new(0),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    std::thread::scope(|scope| -> Result<()> {
        let shorts: Vec<_> = (0..12)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while !is_over.load(Ordering::Relaxed) {
                        let is_after = is_long_begun.load(Ordering::Relaxed);
                        cluster.run("sleep 0.4").finish()?.success()?;
                        begun_after.fetch_add(usize::from(is_after), Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let long = (|| {
            wait_until("all slots are taken", FREE_LIMIT, || {
                slots_used(cluster) == [2, 2, 2]
            })?;
            let line = ["sleep 0.1"; 6].join(" | ");
            let long = cluster.run(&line).start()?;
            is_long_begun.store(true, Ordering::Relaxed);
            long.finish()?.success()
        })();
        is_over.store(true, Ordering::Relaxed);
        let before = begun_after.load(Ordering::Relaxed);
        for short in shorts {
            short.join().map_err(|_| anyhow::anyhow!("a runner panicked"))??;
        }
        long?;
        println!("{before} short lines begun after a long one were over before it");
        assert!(before < 20, "{before} short lines overtook a long one");
        Ok(())
    })
}
