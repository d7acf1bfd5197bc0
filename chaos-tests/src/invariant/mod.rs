//! What must hold when all faults are over, one file each: from what clients were told and what can be seen from outside.
//!
//! | part | always |
//! |---|---|
//! | `results.rs` | every job whose ID was answered has exactly one recorded result, with the right bytes |
//! | `attempts.rs` | each attempt of each job was started at most once: the stages themselves say so |
//! | `kept.rs` | no key whose put was answered is lost, on any replica |
//! | `registers.rs` | what was read and written is explained by one order |
//! | `left_over.rs` | nothing is left running, and no slot taken |

mod attempts;
mod kept;
mod left_over;
mod registers;
pub mod results;

use std::path::Path;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::history::History;

/// A cluster after its faults, and what is known of them.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Healed and up.
    pub cluster: &'a Cluster,
    /// What clients were told.
    pub history: &'a History,
    /// A line `JOB ATTEMPT` of each attempt that a stage began.
    pub starts: &'a Path,
}

/// What was counted on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Attempts that were begun.
    pub attempts: usize,
    /// Of them, those that were not their job's first.
    pub later_attempts: usize,
}

/// What does not hold; an error is a cluster that cannot be asked, which is a violation as well.
pub fn look(seen: Seen<'_>) -> (Counts, Vec<String>) {
    let mut counts = Counts::default();
    let mut found = Vec::new();
    let mut take = |name: &str, looked: Result<Vec<String>>| match looked {
        Ok(violations) => found.extend(violations.into_iter().map(|said| format!("{name}: {said}"))),
        Err(error) => found.push(format!("{name}: {error:#}")),
    };
    // Results first: they wait for the jobs that are still under way.
    take("results", results::look(seen.cluster, seen.history));
    take("attempts", attempts::look(seen, &mut counts));
    take("kept", kept::look(seen));
    take("registers", registers::look(seen));
    take("left over", left_over::look(seen));
    (counts, found)
}
