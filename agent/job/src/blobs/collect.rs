//! One blob that nothing names is collected, by whoever got to it.
//!
//! ```text
//! somebody awaits its name                  later
//! nothing under by/, no gone                put gone, the generation     (who finds a gone of another's goes on with that)
//! holders delete                            each reads gone: a late order, or one of a dead collector, does nothing
//! gone is as it was                         delete gone, put the generation
//! ```
//!
//! A holder that could not be reached keeps it, and looks itself when it reads that `gone` was removed, or at its next
//! walk.

use pipes_raft::{
    Compare, CompareOp, Consistency, KeyValue, Op, OpResult, Range, Store, Target, Txn, prefix_end,
};

use crate::error::Error;
use crate::key;
use crate::seams::Holders;

/// What became of a blob that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// Something names it, or another looks.
    NothingToDo,
    /// Somebody expects it to be named.
    IsAwaited,
    /// All who could be reached have deleted it.
    IsCollected,
}

/// Whether anything is known of a blob: names of it, and that it is being collected. What this node has read counts.
pub async fn known(store: &Store, digest: &str) -> Result<(bool, bool), Error> {
    let names = one_name(digest);
    let named = store.range(names, Consistency::Serializable).await?;
    let gone = Range::key(key::blob_gone(digest));
    let gone = store.range(gone, Consistency::Serializable).await?;
    Ok((!named.kvs.is_empty(), !gone.kvs.is_empty()))
}

/// Collects it, if nothing names it.
pub async fn collect(store: &Store, holders: &dyn Holders, digest: &str) -> Result<Looked, Error> {
    if holders.is_awaited(digest).await {
        return Ok(Looked::IsAwaited);
    }
    let begun = store.txn(begin(digest)).await?;
    let gone = match begun.succeeded {
        true => begun.revision,
        // Another began, or this one before an answer was lost: whoever goes on with it does no harm.
        false => match found(&begun.responses) {
            Some(gone) => gone.mod_revision,
            None => return Ok(Looked::NothingToDo),
        },
    };
    holders.delete(digest).await;
    store.txn(end(digest, gone)).await?;
    Ok(Looked::IsCollected)
}

/// From here on nobody may name it.
fn begin(digest: &str) -> Txn {
    let names = key::blob_names(digest);
    let nameless = Compare {
        end: Some(prefix_end(&names)),
        ..Compare::absent(names)
    };
    let gone = key::blob_gone(digest);
    Txn {
        compares: vec![nameless, Compare::absent(gone.clone())],
        success: vec![
            Op::put(gone.clone(), Vec::new()),
            Op::put(key::blob_generation(digest), Vec::new()),
        ],
        failure: vec![Op::Range(Range::key(gone))],
    }
}

/// From here on it may be named again, by who has asked the holders after this.
fn end(digest: &str, gone: i64) -> Txn {
    let key = key::blob_gone(digest);
    Txn {
        compares: vec![Compare::key(key.clone(), CompareOp::Equal, Target::Mod(gone))],
        success: vec![Op::delete(key), Op::put(key::blob_generation(digest), Vec::new())],
        failure: Vec::new(),
    }
}

fn one_name(digest: &str) -> Range {
    Range {
        limit: 1,
        keys_only: true,
        ..Range::prefix(key::blob_names(digest))
    }
}

fn found(responses: &[OpResult]) -> Option<&KeyValue> {
    match responses.first() {
        Some(OpResult::Range(read)) => read.kvs.first(),
        _ => None,
    }
}
