//! The services of the cluster: which there are, in which versions.
//!
//! Naming a blob is a race with its collection, decided by the store: who names D reads the generation of D's group first,
//! has the holders say that they have D, and writes only if the generation is unchanged and D is not being collected.
//! Nothing collects blobs yet; the keys are those that a collector will write.

use std::time::SystemTime;

use pipes_raft::{
    Compare, CompareOp, Consistency, KeyValue, OPERATIONS_MAX, Op, OpResult, Range, Store, Target, Txn,
};

use crate::blob::Digest;
use crate::keys;
use crate::service::name::{BadName, check_name, split};
use crate::service::record::Record;

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

/// The right to name a blob, taken before its holders are asked.
#[derive(Debug, Clone, Copy)]
pub struct Naming {
    digest: Digest,
    /// When the generation of the digest's group was last written; 0: never.
    generation: i64,
}

impl Naming {
    /// Reads the generation; to be called before the blob is uploaded or its holders are asked.
    pub async fn begin(store: &Store, digest: Digest) -> Result<Naming, pipes_raft::Error> {
        let kept = store.get(keys::blob_generation(digest.bytes()[0])).await?;
        Ok(Naming {
            digest,
            generation: kept.map_or(0, |kept| kept.mod_revision),
        })
    }

    /// What must hold when the name is written.
    pub fn compares(&self) -> Vec<Compare> {
        let generation = keys::blob_generation(self.digest.bytes()[0]);
        let gone = keys::blob_gone(&self.digest.to_string());
        vec![
            Compare::key(generation, CompareOp::Equal, Target::Mod(self.generation)),
            Compare::absent(gone),
        ]
    }
}

/// Makes `record` the newest version of its service. Its blob lies on a majority of the voters already.
pub async fn put(store: &Store, record: &Record, naming: Naming) -> Result<(), Error> {
    check_name(&record.name)?;
    // A record is text and numbers: it always has a JSON form.
    let value = serde_json::to_vec(record).unwrap_or_default();
    let digest = record.digest.to_string();
    let version = keys::version(&record.name, &digest);
    let success = vec![
        Op::put(keys::service(&record.name), value.clone()),
        Op::put(keys::blob_named_by(&digest, &version), Vec::new()),
        Op::put(version, value),
    ];
    let txn = Txn {
        compares: naming.compares(),
        success,
        failure: Vec::new(),
    };
    match store.txn(txn).await?.succeeded {
        true => Ok(()),
        false => Err(Error::Moved(record.digest)),
    }
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
    let success = vec![
        Op::delete(keys::service(name)),
        Op::Delete {
            key: versions.clone(),
            end,
            prev: false,
        },
    ];
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
    if !store.txn(txn).await?.succeeded {
        return Err(Error::Changed(name.to_owned()));
    }
    forget_names(store, &versions, &named).await
}

/// Takes the names of versions that are gone from their blobs. Should this fail half-way, a blob stays that nobody needs.
async fn forget_names(store: &Store, versions: &[u8], named: &[KeyValue]) -> Result<(), Error> {
    let digests = named
        .iter()
        .filter_map(|kv| Some((keys::after(&kv.key, versions)?, &kv.key)));
    let names: Vec<(Vec<u8>, &Vec<u8>)> = digests
        .map(|(digest, version)| (keys::blob_named_by(digest, version), version))
        .collect();
    for some in names.chunks(OPERATIONS_MAX / 2) {
        // Built again meanwhile: then that build's name stays.
        let compares = some
            .iter()
            .map(|(_, version)| Compare::absent(version.as_slice()))
            .collect();
        let success = some.iter().map(|(name, _)| Op::delete(name.as_slice())).collect();
        store
            .txn(Txn {
                compares,
                success,
                failure: Vec::new(),
            })
            .await?;
    }
    Ok(())
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
