//! `pipes.store.range|txn`: the store at any agent, for keys outside `/pipes/` alone.
//!
//! A request is judged by all that it could reach: one that could touch `/pipes/` is refused whole.

use pipes_raft::{Compare, Consistency, Op, Range, Txn};
use rmpv::Value;

use crate::api::arguments::{Arguments, decode};
use crate::api::{Api, Error, value};
use crate::keys;

pub(super) async fn range(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let consistency = match arguments.take("consistency") {
        Some(value) => decode(&value)?,
        None => Consistency::Linearizable,
    };
    let range: Range = arguments.all()?;
    outside(&range.key, range.end.as_deref())?;
    Ok(value(&api.store.range(range, consistency).await?))
}

pub(super) async fn txn(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let txn: Txn = arguments.all()?;
    judge(&txn)?;
    Ok(value(&api.store.txn(txn).await?))
}

fn judge(txn: &Txn) -> Result<(), Error> {
    for Compare { key, end, .. } in &txn.compares {
        outside(key, end.as_deref())?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Put { key, .. } => outside(key, None)?,
            Op::Delete { key, end, .. } => outside(key, end.as_deref())?,
            Op::Range(range) => outside(&range.key, range.end.as_deref())?,
            Op::Txn(inner) => judge(inner)?,
        }
    }
    Ok(())
}

/// Whether `[key, end)` has nothing in common with `/pipes/`.
fn outside(key: &[u8], end: Option<&[u8]>) -> Result<(), Error> {
    let root = keys::ROOT.as_bytes();
    let after_root = pipes_raft::prefix_end(root);
    let touches = match end {
        None => key.starts_with(root),
        Some([0]) => key < after_root.as_slice(),
        Some(end) => key < after_root.as_slice() && end > root,
    };
    if touches {
        let message = "keys under /pipes/ are the cluster's own: name others".into();
        return Err(Error::NotAuthorized(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_touch_the_clusters_keys_is_refused() {
        for (key, end, good) in [
            ("a", None, true),
            ("/pipes/x", None, false),
            ("/pipes", None, true),
            ("/pipes0", None, true),
            ("/", Some("0"), false),
            ("/pipes/", Some("/pipes0"), false),
            ("/pipes0", Some("z"), true),
            ("/a", Some("/pipes/"), true),
            ("a", Some("\0"), true),
            ("/", Some("\0"), false),
        ] {
            assert_eq!(
                outside(key.as_bytes(), end.map(str::as_bytes)).is_ok(),
                good,
                "{key} {end:?}"
            );
        }
    }

    #[test]
    fn a_branch_that_is_not_taken_is_judged_too() {
        let inner = Txn {
            failure: vec![Op::delete("/pipes/nodes/1")],
            ..Txn::default()
        };
        let txn = Txn {
            success: vec![Op::Txn(inner)],
            ..Txn::default()
        };
        assert!(judge(&txn).is_err());
    }
}
