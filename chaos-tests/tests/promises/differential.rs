//! A line on a cluster is the same line in `sh`: bytes and every stage's status.
//!
//! One difference is allowed, because news of a reader's end takes longer over a network: a stage may have been
//! ended by SIGPIPE in one and have ended by itself in the other, if its reader left at most a grown hop's window
//! and pipe of its output unread.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::{self, Input};
use pipes_chaos::differential::lines::{self, Line};
use pipes_chaos::differential::{
    Kind, TOOLS,
    shell::{self, Correct},
};
use pipes_chaos::random;
use pipes_chaos::report::Report;

/// How many lines are compared: at least 500 are promised.
const LINES: usize = 520;
/// Lines under way at once: one for each core that tests may count on.
const AT_ONCE: usize = 2;
/// A grown hop's window of 1 MiB and its pipe of 256 KiB.
const UNREAD_MAX: u64 = 1_310_720;
/// After this many different lines the rest would say nothing new.
const DIFFERENCES_MAX: usize = 12;
/// The status of a stage that wrote where nobody reads.
const SIGPIPE: i64 = 141;

#[test]
fn five_hundred_random_lines_are_as_in_sh() -> Result<()> {
    let seed = random::seed("differential");
    let made = lines::lines(seed, LINES);
    for (what, count) in lines::census(&made) {
        assert!(count >= 20, "{what} is in {count} lines only");
    }
    let cluster = Cluster::start(3)?;
    cluster.build(&TOOLS)?;
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(line) = made.get(number) else { break };
                    let outcome = compare(&cluster, line, seed, number);
                    let Ok(mut tally) = tally.lock() else { break };
                    tally.add(line, number, outcome);
                    if tally.differences.len() >= DIFFERENCES_MAX {
                        break;
                    }
                }
            });
        }
    });
    let tally = tally
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let differences = &tally.differences;
    assert!(
        differences.is_empty(),
        "seed {seed}: {} lines differ\n{}",
        differences.len(),
        differences.join("\n")
    );
    println!(
        "{} lines, {} ended early, {} failed before the last",
        tally.lines, tally.early, tally.failing
    );
    assert!(tally.lines >= 500, "only {} lines were run", tally.lines);
    assert!(tally.early >= 100, "only {} lines ended early", tally.early);
    assert!(
        tally.failing >= 100,
        "only {} lines had a failing stage before the last",
        tally.failing
    );
    cluster.finish()
}

#[derive(Default)]
struct Tally {
    lines: usize,
    early: usize,
    failing: usize,
    differences: Vec<String>,
}

impl Tally {
    fn add(&mut self, line: &Line, number: usize, outcome: Result<Correct>) {
        match outcome {
            Ok(correct) => {
                self.lines += 1;
                let before_last = &correct.statuses[..correct.statuses.len() - 1];
                self.early += usize::from(before_last.contains(&SIGPIPE));
                self.failing += usize::from(
                    before_last
                        .iter()
                        .any(|status| *status != 0 && *status != SIGPIPE),
                );
            }
            Err(error) => {
                self.differences.push(format!(
                    "line {number} ({:?}): {}\n    {error:#}",
                    line.input,
                    line.text()
                ));
            }
        }
    }
}

fn compare(cluster: &Cluster, line: &Line, seed: u64, number: usize) -> Result<Correct> {
    let mut random = random::generator(seed ^ ((number as u64) << 20));
    let input = cluster.write(&format!("input-{number}"), &line.input.make(&mut random))?;
    let folder = cluster.file("");
    let correct = shell::run(line, &input, &folder).context("in sh")?;
    let (done, report) = cluster
        .run(&line.text())
        .input(Input::Cat(input.clone()))
        .reported()?;
    if done.stdout != correct.stdout {
        let at = done
            .stdout
            .iter()
            .zip(&correct.stdout)
            .take_while(|(one, other)| one == other)
            .count();
        bail!(
            "stdout: {} bytes instead of {}, different from byte {at}; statuses {:?} instead of {:?}; stderr {}",
            done.stdout.len(),
            correct.stdout.len(),
            report.statuses(),
            correct.statuses,
            done.errors()
        );
    }
    for stage in 0..line.stages.len() {
        same_status(line, stage, &correct, &report, &input, &folder)?;
    }
    let last = report.statuses().last().copied();
    if Some(i64::from(done.code())) != last {
        bail!(
            "pipes run exited {} though the last stage's status is {last:?}: {}",
            done.code(),
            done.errors()
        );
    }
    std::fs::remove_file(&input)?;
    Ok(correct)
}

fn same_status(
    line: &Line,
    stage: usize,
    correct: &Correct,
    report: &Report,
    input: &Path,
    folder: &Path,
) -> Result<()> {
    let (theirs, ours) = (correct.statuses.get(stage), report.statuses().get(stage).copied());
    let (Some(&theirs), Some(ours)) = (theirs, ours) else {
        bail!("{} stages reported", report.stages.len())
    };
    if theirs == ours {
        return Ok(());
    }
    let differs = format!(
        "stage {}: {ours} instead of {theirs}; report {}",
        stage + 1,
        report.whole
    );
    let Some(reader) = report.stages.get(stage + 1) else {
        bail!("{differs}")
    };
    if theirs != SIGPIPE && ours != SIGPIPE {
        bail!("{differs}");
    }
    // What the stage writes when everything is read: known where it ended by itself here.
    let whole = if ours == SIGPIPE {
        shell::whole_output(line, stage + 1, input, folder)?
    } else {
        report.stages[stage].bytes_out.context("bytes_out")?
    };
    let unread = whole.saturating_sub(reader.bytes_in.context("bytes_in")?);
    if unread > UNREAD_MAX {
        bail!("{differs}: {unread} of {whole} bytes unread");
    }
    Ok(())
}

/// How often `sh` is asked again whether it may end as Pipes did.
const MORE_RUNS: usize = 300;

/// Where 20 runs of `sh` agree on the statuses, so must every run of Pipes; so many lines beside one another.
fn agrees_where_sh_does(reader: &str, lengths: &[u32], at_once: usize) -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["seq", "head", "sleep"])?;
    let input = cluster.write("empty", b"")?;
    let agree = |lengths: &[u32]| -> Result<usize> {
        let agreed = lengths.iter().map(|length| {
            let line = format!("seq 1 {length} | {reader}");
            Ok(usize::from(agrees_with_sh(&cluster, &line, &input)?))
        });
        agreed.sum()
    };
    let agreed: usize = std::thread::scope(|scope| {
        let parts = lengths.chunks(lengths.len().div_ceil(at_once));
        let parts: Vec<_> = parts.map(|part| scope.spawn(|| agree(part))).collect();
        let agreed = parts.into_iter().map(|part| {
            part.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        agreed.sum::<Result<usize>>()
    })?;
    assert!(
        agreed * 3 >= lengths.len(),
        "sh agreed with itself on {agreed} of {} lines only",
        lengths.len()
    );
    cluster.finish()
}

/// Whether `sh` agrees with itself on a line; where it does, Pipes does with it.
fn agrees_with_sh(cluster: &Cluster, text: &str, input: &Path) -> Result<bool> {
    let line = plain(text);
    let mut seen: BTreeMap<Vec<i64>, usize> = BTreeMap::new();
    for _ in 0..20 {
        *seen
            .entry(shell::run(&line, input, &cluster.file(""))?.statuses)
            .or_default() += 1;
    }
    let mut seen = seen.into_iter();
    let (Some((statuses, _)), None) = (seen.next(), seen.next()) else {
        return Ok(false);
    };
    for _ in 0..3 {
        let (done, report) = cluster.run(text).options(&["-n"]).reported()?;
        let found = report.statuses();
        ensure!(
            found == statuses || ends_so_at_times(&line, input, &cluster.file(""), &found)?,
            "{text}: {found:?}, and in sh {statuses:?}: {} {}",
            done.errors(),
            report.whole
        );
    }
    Ok(true)
}

/// Whether `sh` gives these statuses at all: what twenty runs did not show, more of them may, where two processes race.
fn ends_so_at_times(line: &Line, input: &Path, folder: &Path, statuses: &[i64]) -> Result<bool> {
    for _ in 0..MORE_RUNS {
        if shell::run(line, input, folder)?.statuses == statuses {
            return Ok(true);
        }
    }
    Ok(false)
}

fn plain(text: &str) -> Line {
    let stages = text
        .split(" | ")
        .map(|words| lines::Stage {
            assignments: String::new(),
            tool: words.split(' ').next().unwrap_or_default().to_owned(),
            words: words.to_owned(),
        })
        .collect();
    Line {
        stages,
        input: Kind::Empty,
    }
}

#[test]
fn a_writer_whose_reader_takes_one_line_ends_as_in_sh() -> Result<()> {
    agrees_where_sh_does(
        "head -1",
        &[
            1, 2, 20, 500, 2_000, 5_000, 10_000, 13_000, 14_000, 16_000, 18_000, 20_000,
        ],
        // Whether a writer ends before its reader is a race, which others would have a part in.
        1,
    )
}

#[test]
fn a_writer_whose_reader_sleeps_ends_as_in_sh() -> Result<()> {
    agrees_where_sh_does(
        "sleep 0.3",
        &[
            1, 500, 5_000, 10_000, 12_000, 13_000, 13_500, 14_000, 16_000, 20_000,
        ],
        // Most of it is sleep.
        5,
    )
}

#[test]
fn a_descendant_that_holds_stdout_is_waited_for() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sh", "cat"])?;
    let done = cluster
        .run("sh -c '(sleep 1; echo late) & echo early' | cat")
        .finish()?
        .success()?;
    assert_eq!(done.output(), "early\nlate\n");
    let mut sh = std::process::Command::new("sh");
    sh.args(["-c", "sh -c '(sleep 1; echo late) & echo early' | cat"]);
    assert_eq!(command::run(sh, Input::None)?.output(), done.output());
    cluster.finish()
}
