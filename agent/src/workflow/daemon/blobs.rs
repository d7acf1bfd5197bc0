//! The blobs that a daemon workflow needs, and their names: `/pipes/blobs/D/by/workflows/W`. Pure.
//!
//! Needed is what its definition and its former ones run and lay in working directories: each of them may be what runs
//! next.

use std::collections::BTreeSet;

use pipes_raft::{OPERATIONS_MAX, Op, Txn};

use crate::keys;
use crate::workflow::daemon::record::{Definition, Workflow};

/// Digests of the executables and files that a workflow needs.
pub fn needed(workflow: &Workflow) -> BTreeSet<&str> {
    let definitions = workflow.former.iter().chain([&workflow.definition]);
    definitions.flat_map(digests).collect()
}

/// Digests of what one definition needs.
pub fn digests(definition: &Definition) -> impl Iterator<Item = &str> {
    let executables = definition.stages.iter().map(|stage| stage.digest.as_str());
    let files = definition.options.files.iter().map(|file| file.digest.as_str());
    executables.chain(files)
}

/// Names what is needed now and was not before, and takes the names of what is needed no more.
pub fn rename(name: &str, before: Option<&Workflow>, after: Option<&Workflow>) -> Vec<Op> {
    let (before, after) = (
        before.map(needed).unwrap_or_default(),
        after.map(needed).unwrap_or_default(),
    );
    let key = |digest: &&str| keys::blob_named_by(digest, &keys::workflow(name));
    let named = after
        .difference(&before)
        .map(|digest| Op::put(key(digest), Vec::new()));
    let forgotten = before.difference(&after).map(|digest| Op::delete(key(digest)));
    let ops: Vec<Op> = named.chain(forgotten).collect();
    // One level takes so many operations, and each of them may be a level of its own.
    let levels = ops.chunks(OPERATIONS_MAX).map(|ops| {
        Op::Txn(Txn {
            compares: Vec::new(),
            success: ops.to_vec(),
            failure: Vec::new(),
        })
    });
    levels.collect()
}
