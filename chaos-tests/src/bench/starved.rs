//! Many runs begun at once while other programs want all processors, as a build does.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::{Aim, Table};
use crate::cluster::Cluster;
use crate::command::{self, Input};

/// Runs begun at once.
const RUNS: usize = 200;
/// Programs that compute without end beside them: two compilers.
const BESIDE: usize = 2;
/// The line: three processes and a few bytes.
const LINE: &str = "echo x | cat | cat";

/// Programs that compute until they are dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn start() -> Result<Busy> {
        let one = || {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]);
            command.stdin(Stdio::null()).spawn().context("start a busy shell")
        };
        let mut busy = Busy(Vec::new());
        for _ in 0..BESIDE {
            busy.0.push(one()?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended by itself is gone as well.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How many of them do not end as they should, and when the last one has ended.
pub fn measure(cluster: &Cluster, table: &mut Table) -> Result<()> {
    let _busy = Busy::start()?;
    let begun = Instant::now();
    let runs: Vec<_> = (0..RUNS)
        .map(|_| command::start(cluster.pipes(&["run", "-n", "-q", LINE]), Input::None))
        .collect::<Result<_>>()?;
    let mut failed = 0.0;
    for run in runs {
        let done = run.finish()?;
        if done.code() != 0 || done.output() != "x\n" {
            eprintln!("status {}: {}", done.code(), done.errors().trim_end());
            failed += 1.0;
        }
    }
    let what = format!("{RUNS} runs at once beside {BESIDE} compilers, failed");
    table.figure(what, failed, Some(Aim::Max(0.0)));
    table.figure("  until the last is over, s", begun.elapsed().as_secs_f64(), None);
    Ok(())
}
