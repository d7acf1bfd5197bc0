//! `--file`: laid beside what else the replica does, as it was where it came from.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::wait::wait_until;

/// 256 MiB; PIPES_FILE_BYTES is another size.
const LARGE: u64 = 256 << 20;
/// How long a run beside may be silent that says something every 10 ms.
const GAP_MAX: Duration = Duration::from_millis(400);
/// A file of some gigabytes takes its time, where others work beside it.
const LIMIT: Duration = Duration::from_secs(300);
/// Tries, of which one must hold: a machine that has no processor for a moment freezes a clock too, a replica that copies
/// freezes it each time.
const TRIES: usize = 3;

const CLOCK: &str = "while :; do echo tick; sleep 0.01; done";

#[test]
fn a_large_file_holds_up_nobody_on_its_replica() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["sh"])?;
    let size = std::env::var("PIPES_FILE_BYTES")
        .ok()
        .and_then(|text| text.parse().ok());
    let size = size.unwrap_or(LARGE);
    let large = cluster.file("large");
    std::fs::File::create(&large)?.set_len(size)?;
    let option = large.to_string_lossy().into_owned();
    // Three stages of one replica, each with a copy of its own.
    let lay = || -> Result<()> {
        let line = "sh -c 'wc -c <large' | sh -c 'cat; wc -c <large' | sh -c 'cat; wc -c <large'";
        let run = cluster.run(line).options(&["-n", "--file", &option]).start()?;
        let done = run.finish_within(LIMIT)?.success()?;
        assert_eq!(done.output(), format!("{size}\n").repeat(3));
        Ok(())
    };
    // The cluster has it, read against its digest, before anything is measured.
    lay()?;
    let mut gaps = Vec::new();
    for _ in 0..TRIES {
        let clock = cluster
            .pipes(&["run", "-n", &format!("sh -c '{CLOCK}'")])
            .stdout(Stdio::piped())
            .spawn();
        let mut clock = clock?;
        let ticks = BufReader::new(clock.stdout.take().context("its output")?);
        let reading = std::thread::spawn(move || {
            let times = ticks.lines().map_while(|line| line.ok().map(|_| Instant::now()));
            times.collect::<Vec<Instant>>()
        });
        cluster.stages_run(1)?;
        let begun = Instant::now();
        lay()?;
        let ended = Instant::now();
        clock.kill()?;
        clock.wait()?;
        let times = reading
            .join()
            .map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        let during: Vec<Instant> = times
            .into_iter()
            .filter(|at| (begun..ended).contains(at))
            .collect();
        let gap = during
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .context("ticks")?;
        println!(
            "{} ticks in {:?}, at most {gap:?} apart",
            during.len(),
            ended - begun
        );
        gaps.push(gap);
        wait_until("the clock has stopped", LIMIT, || {
            cluster.no_stages(Duration::ZERO).is_ok()
        })?;
        if gap < GAP_MAX {
            break;
        }
    }
    assert!(gaps.iter().any(|gap| *gap < GAP_MAX), "{gaps:?}");
    cluster.finish()
}

#[test]
fn a_file_that_may_be_executed_may_be_executed_in_a_stage() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::start(1)?;
    cluster.build(&["sh"])?;
    let script = cluster.write("hello.sh", b"#!/bin/sh\necho hello $1\n")?;
    let path = script.to_string_lossy().into_owned();
    let line = "sh -c 'stat -c %a hello.sh; ./hello.sh you'";
    let run = || cluster.run(line).options(&["-n", "--file", &path]).finish();
    assert_eq!(run()?.expect(126)?.output(), "444\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    assert_eq!(run()?.success()?.output(), "555\nhello you\n");
    cluster.finish()
}
