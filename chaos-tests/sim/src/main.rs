//! Runs seeds: `pipes-sim SEED` one, with its trace; `pipes-sim --seeds N [--from S] [--mutant NAME] [--seconds N]
//! [--keep-going] [--loud]` many, with a summary. `pipes-sim jobs ...` the same, with jobs over the store.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pipes_sim::run;
use pipes_sim_seam::Mutant;

#[derive(Default)]
struct Args {
    seed: Option<u64>,
    has_jobs: bool,
    seeds: u64,
    from: u64,
    mutant: Option<Mutant>,
    seconds: Option<u64>,
    keeps_going: bool,
    is_loud: bool,
}

fn args() -> anyhow::Result<Args> {
    let mut args = Args::default();
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        let mut value = || given.next().ok_or_else(|| anyhow::anyhow!("{arg} needs a value"));
        match arg.as_str() {
            "jobs" => args.has_jobs = true,
            "--seeds" => args.seeds = value()?.parse()?,
            "--from" => args.from = value()?.parse()?,
            "--seconds" => args.seconds = Some(value()?.parse()?),
            "--mutant" => {
                let name = value()?;
                let known = Mutant::ALL.map(|(name, _)| name).join(", ");
                let mutant = Mutant::named(&name);
                args.mutant =
                    Some(mutant.ok_or_else(|| anyhow::anyhow!("no mutant {name}; there are {known}"))?);
            }
            "--keep-going" => args.keeps_going = true,
            "--loud" => args.is_loud = true,
            seed => args.seed = Some(seed.parse()?),
        }
    }
    Ok(args)
}

fn main() -> anyhow::Result<ExitCode> {
    let args = args()?;
    let level = std::env::var("PIPES_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(tracing::Level::ERROR))
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    let run = if args.has_jobs { run::run_jobs } else { run::run };
    if let Some(seed) = args.seed {
        let report = run(seed, args.mutant, args.is_loud);
        show(seed, &report, args.is_loud);
        println!("seed {seed}: {} events, sum {:016x}", report.sum.1, report.sum.0);
        return Ok(status(report.violations.is_empty()));
    }
    let began = Instant::now();
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut done, mut failed) = (0u64, 0u64);
    for seed in args.from..args.from + args.seeds {
        let is_late = args
            .seconds
            .is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds));
        if is_late {
            break;
        }
        let report = run(seed, args.mutant, args.is_loud);
        done += 1;
        for (name, count) in &report.counts {
            *counts.entry(name).or_default() += count;
        }
        if let Some(why) = report.violations.first() {
            failed += 1;
            println!("seed {seed} FAILS: {}", why.chars().take(600).collect::<String>());
            if !args.keeps_going {
                show(seed, &report, args.is_loud);
                break;
            }
        }
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!(
        "{done} seeds, {failed} with a violation, {:.0} seeds a minute",
        done as f64 / minutes
    );
    for (name, count) in counts {
        println!("  {count:>12} {name}");
    }
    Ok(status(failed == 0))
}

fn show(seed: u64, report: &pipes_sim::world::Report, is_shown: bool) {
    if report.violations.is_empty() {
        return;
    }
    if !is_shown {
        for line in &report.trace {
            println!("{line}");
        }
    }
    for why in &report.violations {
        println!("seed {seed}: VIOLATION {why}");
    }
}

fn status(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
