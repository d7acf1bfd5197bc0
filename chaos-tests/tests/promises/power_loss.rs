//! What was acknowledged outlives a loss of power, of one agent or of all: files are cut back to what was synced.
//!
//! A cluster goes through five losses, one after another, under writes, builds and runs; `PIPES_POWER_LOSSES` says how
//! many losses there are in all. Each cluster has a seed of its own, which is printed with what went wrong.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pipes_chaos::cluster::{Cluster, START_LIMIT};
use pipes_chaos::random::{generator, seed};
use pipes_chaos::store::Stored;
use pipes_chaos::wait::{let_pass, wait_for, wait_until};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// How many losses there are, unless `PIPES_POWER_LOSSES` says it: `scripts/chaos` wants 200.
const LOSSES: usize = 20;
/// How many of them a cluster goes through.
const LOSSES_A_CLUSTER: usize = 5;
/// So many clusters at a time: most of a loss is waiting for an election.
const CLUSTERS_AT_ONCE: usize = 2;
/// Acknowledged writes that a loss has to wait for, so that it hits a cluster at work.
const WRITES_BEFORE: usize = 20;
/// How long those may take: an election and the mending of what the loss before left.
const WRITES_LIMIT: Duration = Duration::from_secs(30);
/// How long writes go on after a loss: a follower whose disk is slow never catches up with writers that do not pause.
const WRITES_AFTER: Duration = Duration::from_secs(5);
/// How long a replica may take to have what the others have.
const EQUAL_LIMIT: Duration = Duration::from_secs(30);
/// How long a sync takes at most, agent by agent: where the leader's takes longer, its followers are ahead of its disk.
const DELAYS_MS: [u64; 5] = [0, 0, 5, 30, 100];
/// Clients that write, two at each agent.
const WRITERS: usize = 6;
/// Values over which segments of the log come to an end within seconds.
const LARGE: usize = 100_000;

#[test]
fn what_was_acknowledged_outlives_a_loss_of_power() -> Result<()> {
    let losses: usize = std::env::var("PIPES_POWER_LOSSES").map_or(Ok(LOSSES), |text| text.parse())?;
    let first = seed("power_loss");
    let clusters = losses.div_ceil(LOSSES_A_CLUSTER);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for place in 0..CLUSTERS_AT_ONCE.min(clusters) {
            let (next, failures) = (&next, &failures);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= clusters {
                        return;
                    }
                    let seed = first + number as u64;
                    let losses = LOSSES_A_CLUSTER.min(losses - number * LOSSES_A_CLUSTER);
                    if let Err(error) = lose_power(place, seed, losses) {
                        let failure = format!("PIPES_SEED={seed} PIPES_POWER_LOSSES={losses}: {error:#}");
                        println!("{failure}");
                        failures
                            .lock()
                            .map(|mut failures| failures.push(failure))
                            .unwrap_or(());
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    ensure!(
        failures.is_empty(),
        "{} of {clusters} clusters did not come through: {failures:#?}",
        failures.len()
    );
    Ok(())
}

/// A cluster, what it acknowledged, and what is drawn.
struct Trial {
    seed: u64,
    cluster: Cluster,
    random: StdRng,
    acknowledged: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    services: Mutex<Vec<String>>,
    /// So many writes were begun: each has its number.
    begun: AtomicU64,
    answered: AtomicUsize,
    /// When the writers stop by themselves.
    written_until: Mutex<Option<Instant>>,
}

fn lose_power(place: usize, seed: u64, losses: usize) -> Result<()> {
    let mut trial = Trial {
        seed,
        cluster: Cluster::start_recorded(3, &["--address", &address(place)])?,
        random: generator(seed),
        acknowledged: Mutex::default(),
        services: Mutex::default(),
        begun: AtomicU64::new(0),
        answered: AtomicUsize::new(0),
        written_until: Mutex::new(None),
    };
    for loss in 0..losses {
        let begun = Instant::now();
        let held = trial.lose().and_then(|()| trial.check());
        if let Err(error) = held {
            trial.show_logs();
            // Its agents may be in any state: what is left of them is ended, and is no failure of its own.
            let _ = trial.cluster.finish();
            return Err(error.context(format!("loss {loss}")));
        }
        let (taken, count) = (begun.elapsed(), trial.acknowledged_count());
        println!("{seed}: loss {loss} took {taken:.1?}, {count} acknowledged writes are there");
    }
    trial.cluster.finish()
}

/// The first address of a cluster, far from those that `init` takes by itself: while all agents of a cluster are down
/// its addresses would look free to the next one.
fn address(place: usize) -> String {
    let network = 254 - (std::process::id() as usize * CLUSTERS_AT_ONCE + place) % 50;
    format!("127.{network}.0.1")
}

impl Trial {
    /// Takes the power of one, two or all agents while they work, and gives it back.
    fn lose(&mut self) -> Result<()> {
        let random = &mut self.random;
        let mut victims = vec![0, 1, 2];
        victims.shuffle(random);
        victims.truncate([1, 2, 3, 3][random.random_range(0..4)]);
        let delays = [(); 3].map(|()| DELAYS_MS[random.random_range(0..DELAYS_MS.len())]);
        let size = [20, 20, 1_000, LARGE][random.random_range(0..4)];
        let (before, down) = (random.random_range(0..600), random.random_range(0..800));
        let seeds: Vec<u64> = victims.iter().map(|_| random.random()).collect();
        let names: Vec<&str> = victims
            .iter()
            .map(|node| &*self.cluster.nodes[*node].name)
            .collect();
        let seed = self.seed;
        println!("{seed}: {names:?} lose their power, syncs of up to {delays:?} ms, values of {size} octets");

        let trial = &*self;
        let recording = trial.cluster.recording.as_ref().context("a recording")?;
        for (node, delay) in trial.cluster.nodes.iter().zip(delays) {
            recording.set_faults(&node.name, &format!("delay {delay}\n"))?;
        }
        let stop = AtomicBool::new(false);
        trial.set_end_of_writes(None);
        std::thread::scope(|scope| -> Result<()> {
            for writer in 0..WRITERS {
                let stop = &stop;
                scope.spawn(move || trial.write_until(writer, size, stop));
            }
            let built = scope.spawn(|| trial.build_until(&stop));
            let enough = trial.acknowledged_count() + WRITES_BEFORE;
            let flowing = wait_until("writes are acknowledged", WRITES_LIMIT, || {
                trial.acknowledged_count() >= enough
            });
            let lost = flowing.and_then(|_| {
                let_pass(Duration::from_millis(before));
                trial.take_power(&victims, &seeds)?;
                trial.set_end_of_writes(Some(Instant::now() + WRITES_AFTER));
                let_pass(Duration::from_millis(down));
                trial.cluster.start_again()
            });
            stop.store(true, Ordering::Relaxed);
            let built = built
                .join()
                .map_err(|_| anyhow::anyhow!("the builder panicked"))?;
            lost.and(built)
        })
    }

    fn take_power(&self, victims: &[usize], seeds: &[u64]) -> Result<()> {
        self.cluster.kill_some(victims)?;
        let recording = self.cluster.recording.as_ref().context("a recording")?;
        for (victim, seed) in victims.iter().zip(seeds) {
            let node = &self.cluster.nodes[*victim].name;
            println!("{}: {node}: {}", self.seed, recording.power_loss(node, *seed)?);
        }
        Ok(())
    }

    fn set_end_of_writes(&self, end: Option<Instant>) {
        if let Ok(mut until) = self.written_until.lock() {
            *until = end;
        }
    }

    fn is_written(&self) -> bool {
        let until = self.written_until.lock().map_or(None, |until| *until);
        until.is_some_and(|until| Instant::now() >= until)
    }

    fn acknowledged_count(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Puts keys of its own, and one again and again, until it is told to stop or its agent is gone.
    fn write_until(&self, writer: usize, size: usize, stop: &AtomicBool) {
        let Ok(mut client) = self.cluster.store(writer % 3) else {
            return;
        };
        while !stop.load(Ordering::Relaxed) && !self.is_written() {
            let serial = self.begun.fetch_add(1, Ordering::Relaxed);
            let key = match serial % 4 {
                0 => format!("test/counter/{writer}"),
                _ => format!("test/{serial:08}"),
            };
            let value = format!("{serial:020}{}", "x".repeat(size - 20)).into_bytes();
            if client.put(&key, &value).is_err() {
                return;
            }
            if let Ok(mut acknowledged) = self.acknowledged.lock() {
                acknowledged.insert(key.into_bytes(), value);
            }
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Builds services, and runs them, until it is told to stop. What is refused meanwhile is no failure; a wrong output
    /// is.
    fn build_until(&self, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let number = self.services.lock().map_or(0, |services| services.len());
            let name = format!("service{number}");
            let filling = "#".repeat(number * 7_919 % 200_000);
            let text = format!("#!/bin/sh\necho {name}\nexit\n{filling}\n");
            if self.cluster.script(&name, &text).is_err() {
                // It may have been built nevertheless, and is then built again.
                continue;
            }
            if let Ok(mut services) = self.services.lock() {
                services.push(name.clone());
            }
            let done = self.cluster.run(&name).options(&["-n"]).finish()?;
            let expected = format!("{name}\n");
            ensure!(
                done.code() != 0 || done.output() == expected,
                "{name} gave {:?}",
                done.output()
            );
        }
        Ok(())
    }

    /// All agents are up, all replicas are equal and have what was acknowledged, and what was built runs on each.
    fn check(&mut self) -> Result<()> {
        self.cluster.all_up(START_LIMIT)?;
        let revision = wait_for("a read", START_LIMIT, || self.cluster.store(0)?.revision())?;
        let mut replicas: Vec<Vec<Stored>> = Vec::new();
        for node in 0..3 {
            let read = || self.cluster.store(node)?.replica(revision);
            replicas.push(wait_for("a replica has it all", EQUAL_LIMIT, read)?);
        }
        for (node, replica) in replicas.iter().enumerate() {
            self.holds_all(replica)
                .with_context(|| format!("n{}", node + 1))?;
            if let Some(key) = difference(&replicas[0], replica) {
                bail!("n1 and n{} differ at revision {revision} in {key}", node + 1);
            }
        }
        let services = self
            .services
            .lock()
            .map_err(|_| anyhow::anyhow!("the builder panicked"))?;
        // The latest, and one of the others.
        let older = self.random.random_range(0..services.len().max(1));
        for name in services.iter().rev().take(3).chain(services.get(older)) {
            let node = format!("n{}", self.random.random_range(1..=3));
            let run = self.cluster.run(name).options(&["-n"]).placed(&[&node]);
            let done = run
                .finish()?
                .success()
                .with_context(|| format!("{name} on {node}"))?;
            ensure!(
                done.output() == format!("{name}\n"),
                "{name} gave {:?}",
                done.output()
            );
        }
        Ok(())
    }

    fn holds_all(&self, replica: &[Stored]) -> Result<()> {
        let acknowledged = self
            .acknowledged
            .lock()
            .map_err(|_| anyhow::anyhow!("a writer panicked"))?;
        let found: BTreeMap<&[u8], &[u8]> = replica.iter().map(|kv| (&kv.key[..], &kv.value[..])).collect();
        let lost: Vec<_> = acknowledged
            .iter()
            // A counter may be further than what was acknowledged; its serial comes first.
            .filter(|(key, value)| found.get(&key[..]).is_none_or(|found| *found < &value[..]))
            .map(|(key, _)| String::from_utf8_lossy(key))
            .collect();
        ensure!(
            lost.is_empty(),
            "{} of {} acknowledged writes are lost, such as {}",
            lost.len(),
            acknowledged.len(),
            lost[0]
        );
        Ok(())
    }

    fn show_logs(&self) {
        const LINES: usize = 12;
        for node in &self.cluster.nodes {
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("--- the end of {}'s log", node.name);
            println!("{}", lines[lines.len().saturating_sub(LINES)..].join("\n"));
        }
    }
}

/// The first key in which two replicas differ.
fn difference(one: &[Stored], other: &[Stored]) -> Option<String> {
    if one == other {
        return None;
    }
    let equal = one
        .iter()
        .zip(other)
        .take_while(|(one, other)| one == other)
        .count();
    let key = |replica: &[Stored]| {
        replica
            .get(equal)
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
    };
    Some(format!("{:?} and {:?}", key(one), key(other)))
}
