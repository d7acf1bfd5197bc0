//! Large values take disk, not memory; and of what was overwritten, what history allows.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pipes_chaos::cluster::{Cluster, START_LIMIT};
use pipes_chaos::proc;
use pipes_chaos::wait::wait_until;

const MIB: u64 = 1024 * 1024;
/// A value's octets.
const VALUE: usize = 100_000;
/// Clients that put at once.
const AT_ONCE: usize = 16;
/// How long memory and space may take to come back.
const SETTLED: Duration = Duration::from_secs(20);

/// Octets that do not compress, others for each seed.
fn value(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut value = Vec::with_capacity(VALUE + 8);
    while value.len() < VALUE {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        value.extend_from_slice(&(state >> 16).to_le_bytes());
    }
    value.truncate(VALUE);
    value
}

/// Puts so many values, each at the key that its number has, the last one when all others are there.
fn put_all(cluster: &Cluster, count: usize, key: impl Fn(usize) -> String + Sync) -> Result<()> {
    let leader = cluster.leader()?;
    let put_some = &|first: usize| -> Result<()> {
        let mut client = cluster.store(leader)?;
        for number in (first..count - 1).step_by(AT_ONCE) {
            client.put(&key(number), &value(number as u64))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..AT_ONCE)
            .map(|first| scope.spawn(move || put_some(first)))
            .collect();
        for client in clients {
            client
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    cluster
        .store(leader)?
        .put(&key(count - 1), &value(count as u64 - 1))
}

/// Octets of the disk that a folder takes.
fn disk(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = files.map(|file| match file.metadata() {
        Ok(known) if known.is_dir() => disk(&file.path()),
        Ok(known) => known.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// The most that an agent takes, of memory and of its folder, in MiB.
fn most(cluster: &Cluster) -> Result<(u64, u64)> {
    let mut most = (0, 0);
    for node in &cluster.nodes {
        most.0 = most.0.max(proc::resident_memory(node.pid()?)? / MIB);
        most.1 = most.1.max(disk(&node.folder) / MIB);
    }
    Ok(most)
}

#[test]
fn a_large_key_overwritten_two_thousand_times_leaves_little() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let begun = Instant::now();
    put_all(&cluster, 2000, |_| "test/key".into())?;
    let (took, at_once) = (begun.elapsed(), most(&cluster)?);
    let mut now = at_once;
    let settled = wait_until("an agent has little left", SETTLED, || {
        now = most(&cluster).unwrap_or(now);
        now.0 < 80 && now.1 < 400
    });
    println!("2000 puts took {took:?}; memory and disk in MiB: {at_once:?} at once, {now:?} then");
    settled?;
    let kept = cluster.store(0)?.read("test/key")?.context("the key")?;
    assert!(kept == value(1999), "the last value is there");
    cluster.finish()
}

#[test]
fn memory_does_not_grow_with_what_is_stored_and_a_restart_is_quick() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let begun = Instant::now();
    put_all(&cluster, 5000, |number| format!("test/{number:05}"))?;
    let (took, at_once) = (begun.elapsed(), most(&cluster)?);
    println!("5000 puts took {took:?}; memory and disk in MiB: {at_once:?}");
    assert!(at_once.0 < 128, "{} MiB", at_once.0);
    cluster.kill_all()?;
    let begun = Instant::now();
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    let mut client = cluster.store(1)?;
    for number in [0, 2500, 4999] {
        let kept = client.read(&format!("test/{number:05}"))?.context("a key")?;
        assert!(kept == value(number), "{number}");
    }
    let took = begun.elapsed();
    println!("back after {took:?}, with {} MiB", most(&cluster)?.0);
    assert!(took < Duration::from_secs(5), "back after {took:?}");
    assert!(most(&cluster)?.0 < 128);
    cluster.finish()
}
