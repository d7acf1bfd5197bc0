//! What an idle agent costs: memory, processor, disk.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Aim, Table};
use crate::cluster::Cluster;
use crate::proc;
use crate::wait::let_pass;

/// Left alone first, so that what the start or the last load left to do is done.
const SETTLE: Duration = Duration::from_secs(10);
/// Watched for so long.
const WATCHED: Duration = Duration::from_secs(20);
/// Clock ticks a second, as `/proc` counts.
const TICKS: f64 = 100.0;

/// The costliest of the agents, in each.
pub fn measure(cluster: &Cluster, table: &mut Table) -> Result<()> {
    let_pass(SETTLE);
    let agents: Vec<i32> = cluster
        .nodes
        .iter()
        .map(|node| node.pid())
        .collect::<Result<_>>()?;
    let read = || -> Result<Vec<(u64, u64)>> {
        agents
            .iter()
            .map(|pid| Ok((proc::processor_ticks(*pid)?, proc::written_bytes(*pid)?)))
            .collect()
    };
    let begun = Instant::now();
    let before = read()?;
    let_pass(WATCHED);
    let after = read()?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut processor: f64 = 0.0;
    let mut written = 0;
    let mut memory = 0;
    for (index, pid) in agents.iter().enumerate() {
        processor = processor.max((after[index].0 - before[index].0) as f64 / TICKS / seconds * 100.0);
        written = written.max(after[index].1 - before[index].1);
        memory = memory.max(proc::resident_memory(*pid)?);
    }
    table.figure(
        "idle agent, MiB",
        memory as f64 / 1_048_576.0,
        Some(Aim::Max(40.0)),
    );
    table.figure("idle agent, % of a core", processor, Some(Aim::Max(1.0)));
    table.figure(
        "idle agent, bytes written to disk",
        written as f64,
        Some(Aim::Max(0.0)),
    );
    Ok(())
}
