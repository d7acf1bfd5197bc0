//! The wishes as they are read, and what a transaction makes sure of about them.

use std::collections::BTreeMap;

use pipes_raft::{Compare, CompareOp, Consistency, KeyValue, Range, Store, Target, prefix_end};

use crate::keys;
use crate::service;
use crate::workflow::daemon::error::Error;
use crate::workflow::daemon::record::Workflow;

/// A wish as it was read.
pub struct Kept {
    /// What it says.
    pub workflow: Workflow,
    /// The revision that wrote it last.
    pub mod_revision: i64,
}

/// All of them as they were read.
pub struct All {
    /// When: the store's revision.
    pub revision: i64,
    /// By name.
    pub kept: BTreeMap<String, Kept>,
}

/// Reads all of them.
pub async fn all(store: &Store) -> Result<All, pipes_raft::Error> {
    let range = Range::prefix(keys::workflows());
    let listed = store.range(range, Consistency::Linearizable).await?;
    let kept = listed.kvs.iter().filter_map(read);
    Ok(All {
        revision: listed.revision,
        kept: kept.map(|kept| (kept.workflow.name.clone(), kept)).collect(),
    })
}

impl All {
    /// What is said where there is none of that name.
    pub fn none(&self, name: &str) -> Error {
        let known: Vec<String> = self.kept.keys().cloned().collect();
        Error::None {
            name: name.to_owned(),
            nearest: service::nearest(name, &known),
        }
    }

    /// The ports of all but one, with who has them.
    pub fn ports(&self, but: &str) -> BTreeMap<u16, &str> {
        let others = self.kept.values().map(|kept| &kept.workflow);
        let others = others.filter(|workflow| workflow.name != but);
        others
            .filter_map(|workflow| Some((workflow.port?, workflow.name.as_str())))
            .collect()
    }
}

/// Removes a service, unless a workflow runs it.
pub async fn remove_service(store: &Store, name: &str) -> Result<(), service::Error> {
    let all = all(store).await?;
    let workflows = all.kept.into_values().map(|kept| kept.workflow);
    let users = workflows.filter(|workflow| {
        let mut stages = workflow.definition.stages.iter();
        stages.any(|stage| stage.service == name)
    });
    let users: Vec<String> = users.map(|workflow| workflow.name).collect();
    if !users.is_empty() {
        return Err(service::Error::Used {
            name: name.to_owned(),
            by: users,
        });
    }
    service::remove(store, name, vec![unchanged_since(all.revision)]).await
}

/// What a key says; `None` where it cannot be read.
pub fn read(kv: &KeyValue) -> Option<Kept> {
    let workflow = Workflow::read(&kv.value)
        .inspect_err(|error| {
            tracing::warn!(key = %String::from_utf8_lossy(&kv.key), %error, "a workflow's record is not readable");
        })
        .ok()?;
    Some(Kept {
        workflow,
        mod_revision: kv.mod_revision,
    })
}

/// The key was written last at this revision; 0: it is not there.
pub fn is_of(key: &[u8], revision: i64) -> Compare {
    Compare::key(key, CompareOp::Equal, Target::Mod(revision))
}

/// No workflow was written since this revision; one that was removed since frees what it had, and is no matter.
pub fn unchanged_since(revision: i64) -> Compare {
    let all = keys::workflows();
    Compare {
        end: Some(prefix_end(&all)),
        ..Compare::key(all, CompareOp::Less, Target::Mod(revision + 1))
    }
}

/// There is no key that begins so.
pub fn none_under(prefix: &[u8]) -> Compare {
    Compare {
        end: Some(prefix_end(prefix)),
        ..Compare::absent(prefix)
    }
}
