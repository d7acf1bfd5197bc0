//! A finished job is forgotten: all its keys at once.
//!
//! ```text
//! if   done/W/ID is as it was read
//! then done/W/ID, ids/ID, input/ID, result/ID, expiry/WHEN/ID, keys/W/HASH and the names of its blobs go
//! ```

use pipes_raft::{Compare, CompareOp, Op, Target, Txn};

use crate::key;
use crate::record::Done;

/// The transaction for one job, whose record was read at this revision.
pub fn txn(workflow: &str, id: &str, done: &Done, revision: i64) -> Txn {
    let own = key::done(workflow, id);
    let (input, result) = (key::input(id), key::result(id));
    let mut success = vec![
        Op::delete(own.clone()),
        Op::delete(key::id(id)),
        Op::delete(input.clone()),
        Op::delete(result.clone()),
        Op::delete(key::expiry(done.expires, id)),
    ];
    success.extend(
        done.key
            .as_ref()
            .map(|sha256| Op::delete(key::idempotency(workflow, sha256))),
    );
    let names = [(Some(&done.input), input), (done.result.as_ref(), result)];
    let named = names
        .into_iter()
        .filter_map(|(content, by)| Some((content?.digest()?, by)));
    success.extend(named.map(|(digest, by)| Op::delete(key::blob_named_by(&digest, &by))));
    Txn {
        compares: vec![Compare::key(own, CompareOp::Equal, Target::Mod(revision))],
        success,
        failure: Vec::new(),
    }
}
