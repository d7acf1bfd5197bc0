//! Each attempt of each job was started at most once. The first stage writes a line for itself before it reads anything.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::{Counts, Seen};

pub(super) fn look(seen: Seen<'_>, counts: &mut Counts) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(seen.starts);
    let text = text.with_context(|| format!("read {}", seen.starts.display()))?;
    let mut found = Vec::new();
    let mut begun: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for line in text.lines() {
        let (job, attempt) = line.split_once(' ').with_context(|| line.to_owned())?;
        let attempt: u32 = attempt.parse().with_context(|| line.to_owned())?;
        counts.attempts += 1;
        counts.later_attempts += usize::from(attempt > 1);
        if !begun.entry(job).or_default().insert(attempt) {
            found.push(format!("attempt {attempt} of {job} was started twice"));
        }
    }
    let told = seen.history.told();
    let never = told
        .accepted
        .iter()
        .filter(|job| !begun.contains_key(job.id.as_str()));
    found.extend(never.map(|job| format!("{} has a result, and no stage of it ever ran", job.id)));
    Ok(found)
}
