//! `pipes-chaos --minutes N [--seed S] [--keep FOLDER]`: rounds of chaos until the minutes are over.
//!
//! Each round has a seed of its own; `--seed S` goes through that round alone. It says a line a round and a line in the
//! end, and fails if anything did not hold.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pipes_chaos::scenario::{self, Round, plan};
use rand::RngCore;

/// Faults of a round: two minutes of them, most of it calm or starting again.
const FAULTS: usize = 12;
/// Clients that submit, and what each rests between two queries: some sixty queries a second, which two processors do
/// beside three agents.
const CLIENTS: usize = 8;
const PACE: Duration = Duration::from_millis(120);

struct Options {
    minutes: u64,
    seed: Option<u64>,
    keep: PathBuf,
}

fn options() -> Result<Options> {
    let mut options = Options {
        minutes: 0,
        seed: None,
        keep: PathBuf::from("chaos-kept"),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--minutes" => options.minutes = value.parse().context("--minutes is a number")?,
            "--seed" => options.seed = Some(value.parse().context("--seed is a number")?),
            "--keep" => options.keep = value.into(),
            _ => bail!("pipes-chaos --minutes N [--seed S] [--keep FOLDER]"),
        }
    }
    Ok(options)
}

/// As the first process of its namespace it hears no signal that it does not handle; and its end is that of all others.
fn end_at_signals() {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: _exit(2) is async-signal-safe.
        unsafe { libc::_exit(128 + signal) }
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler does nothing but end the process.
        unsafe { libc::signal(signal, end as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

fn main() -> Result<()> {
    let options = options()?;
    end_at_signals();
    let limit = Duration::from_secs(options.minutes * 60);
    let begun = Instant::now();
    let (mut rounds, mut jobs, mut violations) = (0, 0, 0);
    while rounds == 0 || (options.seed.is_none() && begun.elapsed() < limit) {
        let seed = options.seed.unwrap_or_else(|| rand::rng().next_u64() >> 32);
        println!("--seed {seed}");
        let summary = scenario::go(&Round {
            seed,
            plan: plan::random(seed, 3, FAULTS),
            clients: CLIENTS,
            pace: PACE,
            queries: usize::MAX,
            is_mixed: true,
            has_clocks: true,
            keep: options.keep.clone(),
        })?;
        println!("  {summary}");
        for violation in &summary.violations {
            println!("  VIOLATION {violation}");
        }
        rounds += 1;
        jobs += summary.jobs;
        violations += summary.violations.len();
    }
    println!(
        "{rounds} rounds, {jobs} jobs, {violations} violations in {} s",
        begun.elapsed().as_secs()
    );
    ensure!(violations == 0, "{violations} violations");
    Ok(())
}
