//! Many runs at once on few slots all end rightly, and a stream beside them keeps moving.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::{Finished, Input};

/// Runs begun at once.
const RUNS: usize = 200;
/// When the last one must have ended.
const RUNS_LIMIT: Duration = Duration::from_secs(60);
/// The stream's length.
const STREAM: u64 = 1_000_000_000;
/// In every such time ...
const WINDOW: Duration = Duration::from_secs(2);
/// ... at least so much of the stream must move.
const MOVED_MIN: u64 = 1_000_000;

#[test]
fn two_hundred_runs_and_a_stream_share_few_slots() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["seq", "sort", "tail", "cat", "wc"])?;
    cluster.call(&["cluster", "set", "slots=4"])?;
    cluster.call(&["cluster", "set", "replicas=1"])?;
    let moved = AtomicU64::new(0);
    let stream_over = AtomicBool::new(false);
    let mut stream = cluster
        .run("cat | cat | wc -c")
        .placed(&["n1", "n2", "n3"])
        .input(Input::Open)
        .start()?;
    let mut stdin = stream.take_stdin().context("stdin")?;
    cluster.stages_run(3)?;
    let begun = Instant::now();
    let (results, slowest_window) = std::thread::scope(|scope| -> Result<_> {
        scope.spawn(|| {
            let block = vec![b'x'; 64 * 1024];
            let mut left = STREAM;
            while left > 0 {
                let length = usize::try_from(left).unwrap_or(block.len()).min(block.len());
                if stdin.write_all(&block[..length]).is_err() {
                    break;
                }
                left -= length as u64;
                moved.fetch_add(length as u64, Ordering::Relaxed);
            }
            drop(stdin);
            stream_over.store(true, Ordering::Relaxed);
        });
        let watcher = scope.spawn(|| slowest(&moved, &stream_over));
        let runs: Vec<_> = (0..RUNS)
            .map(|number| {
                let line = format!("seq 1 {} | sort -rn | tail -n 1", 100 + number);
                let running = cluster.run(&line).options(&["-n"]).start();
                scope.spawn(move || running?.finish_within(2 * RUNS_LIMIT))
            })
            .collect();
        let results: Vec<_> = runs.into_iter().map(|run| run.join()).collect();
        let took = begun.elapsed();
        println!("{RUNS} runs took {took:?}");
        let slowest = watcher.join().unwrap_or(0);
        assert!(took < RUNS_LIMIT, "{RUNS} runs took {took:?}");
        Ok((results, slowest))
    })?;
    let wrong: Vec<String> = results
        .into_iter()
        .enumerate()
        .filter_map(|(number, result)| wrong(number, result))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {RUNS} runs ended wrongly:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let counted = stream.finish()?.success()?;
    assert_eq!(counted.output().trim(), STREAM.to_string());
    assert!(
        slowest_window >= MOVED_MIN,
        "the stream moved only {slowest_window} bytes in some {WINDOW:?}"
    );
    cluster.finish()
}

/// What was wrong with a run, where something was.
fn wrong(number: usize, result: std::thread::Result<Result<Finished>>) -> Option<String> {
    match result {
        Ok(Ok(done)) if done.code() == 0 && done.output() == "1\n" => None,
        Ok(Ok(done)) => Some(format!(
            "run {number}: {} {:?} {}",
            done.code(),
            done.output(),
            done.errors()
        )),
        Ok(Err(error)) => Some(format!("run {number}: {error:#}")),
        Err(_) => Some(format!("run {number}: its thread panicked")),
    }
}

/// The least that moved in any whole window while the stream was under way.
fn slowest(moved: &AtomicU64, over: &AtomicBool) -> u64 {
    let mut slowest = u64::MAX;
    loop {
        let before = moved.load(Ordering::Relaxed);
        pipes_chaos::wait::let_pass(WINDOW);
        if over.load(Ordering::Relaxed) {
            return slowest;
        }
        slowest = slowest.min(moved.load(Ordering::Relaxed) - before);
    }
}
