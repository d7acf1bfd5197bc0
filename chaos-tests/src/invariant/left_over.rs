//! Nothing is left running: no process of any stage, and no slot taken.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Seen;
use crate::wait::wait_for;

/// How long what was lost may take to be gone: an attempt is killed when its agent reads that another owns the job, and
/// what became of a run is known when its lease has ended.
const GONE_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn look(seen: Seen<'_>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if let Err(error) = seen.cluster.no_stages(GONE_LIMIT) {
        found.push(format!("{error:#}"));
    }
    for node in &seen.cluster.nodes {
        let free = wait_for("no slot is taken", GONE_LIMIT, || {
            let used = node.slots_used()?;
            ensure!(used == 0, "{used} slots of {} are taken", node.name);
            Ok(())
        });
        found.extend(free.err().map(|error| format!("{error:#}")));
    }
    Ok(found)
}
