//! No key whose put was answered is lost: each agent's own replica has it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::Seen;
use crate::wait::wait_for;

/// How long a replica may take to have what the leader has.
const CAUGHT_UP_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn look(seen: Seen<'_>) -> Result<Vec<String>> {
    let told = seen.history.told();
    let mut found = Vec::new();
    let revision = seen.cluster.store(0)?.revision()?;
    for (at, node) in seen.cluster.nodes.iter().enumerate() {
        let replica = wait_for("the replica has caught up", CAUGHT_UP_LIMIT, || {
            seen.cluster.store(at)?.replica(revision)
        })?;
        let there: BTreeMap<&[u8], &[u8]> = replica
            .iter()
            .map(|stored| (&stored.key[..], &stored.value[..]))
            .collect();
        for (key, value) in &told.kept {
            let read = there.get(key.as_bytes());
            if read != Some(&value.as_bytes()) {
                found.push(format!("{key} was put, and on {} it is {read:?}", node.name));
            }
        }
    }
    Ok(found)
}
