//! Each attempt of each job was started at most once. The first stage writes a line for itself before it reads anything.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::{Counts, Seen};

pub(super) fn look(seen: Seen<'_>, counts: &mut Counts) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(seen.starts);
    let text = text.with_context(|| format!("read {}", seen.starts.display()))?;
    let (begun, mut found) = begun(&text, counts)?;
    let told = seen.history.told();
    let never = told
        .accepted
        .iter()
        .filter(|job| !begun.contains_key(job.id.as_str()));
    found.extend(never.map(|job| format!("{} has a result, and no stage of it ever ran", job.id)));
    Ok(found)
}

/// The attempts of each job that a stage began, and what is wrong with them.
type Begun<'t> = (BTreeMap<&'t str, BTreeSet<u32>>, Vec<String>);

fn begun<'t>(text: &'t str, counts: &mut Counts) -> Result<Begun<'t>> {
    let (mut begun, mut found) = (BTreeMap::<&str, BTreeSet<u32>>::new(), Vec::new());
    for line in text.lines() {
        let (job, attempt) = line.split_once(' ').with_context(|| line.to_owned())?;
        let attempt: u32 = attempt.parse().with_context(|| line.to_owned())?;
        counts.attempts += 1;
        counts.later_attempts += usize::from(attempt > 1);
        if !begun.entry(job).or_default().insert(attempt) {
            found.push(format!("attempt {attempt} of {job} was started twice"));
        }
    }
    Ok((begun, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_was_started_twice_is_found_and_two_attempts_are_not() {
        let mut counts = Counts::default();
        let (jobs, found) = begun("j1 1\nj2 1\nj1 2\n", &mut counts).unwrap();
        assert_eq!((jobs.len(), found.len()), (2, 0));
        assert_eq!((counts.attempts, counts.later_attempts), (3, 1));
        let (_, found) = begun("j1 1\nj2 1\nj1 1\n", &mut counts).unwrap();
        assert_eq!(found, ["attempt 1 of j1 was started twice"]);
        assert!(begun("half", &mut counts).is_err());
    }
}
