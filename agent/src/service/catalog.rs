//! The services of the cluster: which there are, in which versions.
//!
//! A version names its blob, by a right that is a race with the blob's collection (`pipes_job::blobs`); the name goes with
//! the version, when the service is removed or newer ones have come.

use std::time::SystemTime;

use pipes_job::blobs::Naming;
use pipes_raft::{
    Compare, CompareOp, Consistency, KeyValue, OPERATIONS_MAX, Op, OpResult, Range, Store, Target, Txn,
};

use crate::blob::Digest;
use crate::keys;
use crate::service::name::{BadName, check_name, split};
use crate::service::record::Record;

/// Versions of a service that are kept beside the newest: as many as former definitions of a workflow, which names what it
/// runs itself.
pub const FORMER_MAX: usize = 10;
/// Versions that go at once: one where none is above the limit, more of a cluster whose agents kept all of them.
const REPLACED_MAX: usize = 32;

/// What went wrong with a service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user's.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Nobody's: the blob was about to be collected. Its holders may be asked again.
    #[error("the executable {0} was being removed just now; build it again")]
    Moved(Digest),
    /// The user's.
    #[error("there is no service {name}{}", nearest.as_ref().map(|near| format!(" (did you mean {near}?)")).unwrap_or_default())]
    Unknown {
        /// As given.
        name: String,
        /// The known name that is closest.
        nearest: Option<String>,
    },
    /// Nobody's: it was built or removed meanwhile. It may be tried again.
    #[error("service {0} was changed meanwhile; try again")]
    Changed(String),
    /// The user's: workflows run it.
    #[error("service {name} is used by workflow {}; update or remove that first", .by.join(", "))]
    Used {
        /// The service.
        name: String,
        /// Names of the workflows.
        by: Vec<String>,
    },
    /// The store's.
    #[error(transparent)]
    Store(#[from] pipes_raft::Error),
}

/// Makes `record` the newest version of its service, by the right to name its blob, which lies on a majority of the voters
/// already. Of those that were before `FORMER_MAX` stay.
pub async fn put(store: &Store, record: &Record, naming: &Naming) -> Result<(), Error> {
    check_name(&record.name)?;
    // A record is text and numbers: it always has a JSON form.
    let value = serde_json::to_vec(record).unwrap_or_default();
    let version = keys::version(&record.name, &record.digest.to_string());
    let (mut compares, mut success) = (naming.compares(), naming.names(&version, None));
    for (key, digest, revision) in replaced(store, &record.name, &version).await? {
        // Built again meanwhile: then it is another that goes.
        compares.push(Compare::key(
            key.as_slice(),
            CompareOp::Equal,
            Target::Mod(revision),
        ));
        success.push(Op::delete(keys::blob_named_by(&digest, &key)));
        success.push(Op::delete(key));
    }
    success.push(Op::put(keys::service(&record.name), value.clone()));
    success.push(Op::put(version, value));
    let txn = Txn {
        compares,
        success,
        failure: Vec::new(),
    };
    match store.txn(txn).await?.succeeded {
        true => Ok(()),
        false => Err(Error::Moved(record.digest)),
    }
}

/// The versions that go when `newest` comes, the oldest first: each its key, its digest and when it was written.
async fn replaced(
    store: &Store,
    name: &str,
    newest: &[u8],
) -> Result<Vec<(Vec<u8>, String, i64)>, pipes_raft::Error> {
    let prefix = keys::versions(name);
    let mut former = store.prefix(prefix.clone()).await?;
    former.retain(|kv| kv.key != newest);
    former.sort_by_key(|kv| kv.mod_revision);
    let count = former.len().saturating_sub(FORMER_MAX).min(REPLACED_MAX);
    former.truncate(count);
    let read = former.into_iter().filter_map(|kv| {
        let digest = keys::after(&kv.key, &prefix)?.to_owned();
        Some((kv.key, digest, kv.mod_revision))
    });
    Ok(read.collect())
}

/// The services named, each `NAME` or `NAME@DIGEST`, in their order; `None` for what was never built. One linearizable
/// read for all: what a build was answered for is seen at every agent.
pub async fn find_all(store: &Store, references: &[&str]) -> Result<Vec<Option<Record>>, pipes_raft::Error> {
    let known: Vec<bool> = references
        .iter()
        .map(|reference| check_name(split(reference).0).is_ok())
        .collect();
    let ranges = references.iter().zip(&known).filter(|(_, known)| **known);
    let success: Vec<Op> = ranges
        .map(|(reference, _)| Op::Range(range_of(reference)))
        .collect();
    if success.is_empty() {
        return Ok(vec![None; references.len()]);
    }
    let txn = Txn {
        compares: Vec::new(),
        success,
        failure: Vec::new(),
    };
    let mut answers = store.txn(txn).await?.responses.into_iter();
    let found = known.into_iter().map(|known| {
        let answer = if known { answers.next() } else { None };
        let Some(OpResult::Range(read)) = answer else {
            return None;
        };
        match read.kvs.as_slice() {
            [kv] => record_of(kv),
            // None, or a digest's beginning that two versions share.
            _ => None,
        }
    });
    Ok(found.collect())
}

/// One service, `NAME` or `NAME@DIGEST`.
pub async fn find(store: &Store, reference: &str) -> Result<Option<Record>, pipes_raft::Error> {
    Ok(find_all(store, &[reference]).await?.pop().flatten())
}

/// The newest version of every service, by name.
pub async fn list(store: &Store) -> Result<Vec<Record>, pipes_raft::Error> {
    Ok(store
        .prefix(keys::services())
        .await?
        .iter()
        .filter_map(record_of)
        .collect())
}

/// The names of all services.
pub async fn names(store: &Store) -> Result<Vec<String>, pipes_raft::Error> {
    let mut range = Range::prefix(keys::services());
    range.keys_only = true;
    let listed = store.range(range, Consistency::Linearizable).await?;
    let prefix = keys::services();
    Ok(listed
        .kvs
        .iter()
        .filter_map(|kv| keys::after(&kv.key, &prefix).map(str::to_owned))
        .collect())
}

/// All versions of a service, the newest first.
pub async fn versions(store: &Store, name: &str) -> Result<Vec<Record>, pipes_raft::Error> {
    if check_name(name).is_err() {
        return Ok(Vec::new());
    }
    let kept = store.prefix(keys::versions(name)).await?;
    let mut versions: Vec<Record> = kept.iter().filter_map(record_of).collect();
    versions.sort_by(|one, other| other.built.cmp(&one.built));
    Ok(versions)
}

/// Forgets a service with all its versions, where what the caller has made sure of still holds.
pub async fn remove(store: &Store, name: &str, mut compares: Vec<Compare>) -> Result<(), Error> {
    let newest = match check_name(name) {
        Ok(()) => store.get(keys::service(name)).await?,
        Err(_) => None,
    };
    let Some(newest) = newest else {
        let nearest = super::nearest(name, &names(store).await?);
        return Err(Error::Unknown {
            name: name.to_owned(),
            nearest,
        });
    };
    let versions = keys::versions(name);
    let named = store.prefix(versions.clone()).await?;
    let end = Some(pipes_raft::prefix_end(&versions));
    let mut success = vec![
        Op::delete(keys::service(name)),
        Op::Delete {
            key: versions.clone(),
            end,
            prev: false,
        },
    ];
    success.extend(forget_names(&versions, &named));
    // A version that is built meanwhile also writes this key, so that none is left behind.
    let unchanged = Compare::key(
        keys::service(name),
        CompareOp::Equal,
        Target::Mod(newest.mod_revision),
    );
    compares.push(unchanged);
    let txn = Txn {
        compares,
        success,
        failure: Vec::new(),
    };
    match store.txn(txn).await?.succeeded {
        true => Ok(()),
        false => Err(Error::Changed(name.to_owned())),
    }
}

/// Takes the names of versions that go from their blobs.
fn forget_names(versions: &[u8], named: &[KeyValue]) -> Vec<Op> {
    let names = named.iter().filter_map(|kv| {
        let digest = keys::after(&kv.key, versions)?;
        Some(Op::delete(keys::blob_named_by(digest, &kv.key)))
    });
    let names: Vec<Op> = names.collect();
    // One level takes so many operations, and each of them may be a level of its own.
    let levels = names.chunks(OPERATIONS_MAX).map(|names| {
        Op::Txn(Txn {
            success: names.to_vec(),
            ..Txn::default()
        })
    });
    levels.collect()
}

impl Record {
    /// The record of an executable that is built now.
    pub fn new(name: &str, digest: Digest, size: u64, kind: super::Kind) -> Record {
        let built = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Record {
            name: name.to_owned(),
            digest,
            size,
            kind,
            built,
        }
    }
}

fn range_of(reference: &str) -> Range {
    match split(reference) {
        (name, None) => Range::key(keys::service(name)),
        // Two are enough to know that the digits name no one version.
        (name, Some(digits)) => Range {
            limit: 2,
            ..Range::prefix(keys::version(name, &format!("sha256:{digits}")))
        },
    }
}

fn record_of(kv: &KeyValue) -> Option<Record> {
    let parsed = serde_json::from_slice(&kv.value);
    parsed
        .inspect_err(|error| {
            tracing::warn!(key = %String::from_utf8_lossy(&kv.key), %error, "a service's record is not readable");
        })
        .ok()
}

#[cfg(test)]
mod tests;
