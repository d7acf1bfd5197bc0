//! The right to name blobs, which is a race with their collection that the store decides.
//!
//! ```text
//! read the generations of their groups -> ask the holders -> write, if the generations are as they were and nobody
//! collects one of them
//! ```

use pipes_raft::{Compare, CompareOp, OPERATIONS_MAX, Op, OpResult, Range, Store, Target, Txn};

use crate::error::Error;
use crate::key;
use crate::seams::Holders;

/// How often the voters may change while they are asked.
const CHANGES_MAX: usize = 5;

/// The right to name some blobs; nothing for bytes that lie in a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming(Vec<(String, i64)>);

impl Naming {
    /// Bytes in a key of their own name nothing.
    pub fn none() -> Naming {
        Naming(Vec::new())
    }

    /// Reads the generations. What the holders answer from now on counts: who begins before an upload need not ask them.
    pub async fn begin(store: &Store, digests: &[String]) -> Result<Naming, pipes_raft::Error> {
        let mut all = Vec::with_capacity(digests.len());
        for some in digests.chunks(OPERATIONS_MAX) {
            let read = |digest: &String| Op::Range(Range::key(key::blob_generation(digest)));
            let txn = Txn {
                success: some.iter().map(read).collect(),
                ..Txn::default()
            };
            let answers = store.txn(txn).await?.responses;
            let generation = |answer: &OpResult| match answer {
                OpResult::Range(read) => read.kvs.first().map_or(0, |kept| kept.mod_revision),
                _ => 0,
            };
            all.extend(some.iter().cloned().zip(answers.iter().map(generation)));
        }
        Ok(Naming(all))
    }

    /// Takes the right to name what a majority of the voters says that it has, or is made to have, of what lies here. Where
    /// the voters change meanwhile they are asked again.
    pub async fn of(store: &Store, holders: &dyn Holders, digests: &[String]) -> Result<Naming, Error> {
        let mut naming = Naming::none();
        for _ in 0..CHANGES_MAX {
            let voters = store.status().voters;
            naming = Naming::asked(store, holders, digests).await?;
            if store.status().voters == voters {
                break;
            }
        }
        Ok(naming)
    }

    async fn asked(store: &Store, holders: &dyn Holders, digests: &[String]) -> Result<Naming, Error> {
        let naming = Naming::begin(store, digests).await?;
        for digest in digests {
            if holders.has(digest).await || holders.sync(digest).await {
                continue;
            }
            // Somebody may have it all the same: of a majority's copies some may be damaged.
            if !holders.fetch(digest).await || !holders.sync(digest).await {
                return Err(Error::BlobMissing(digest.clone()));
            }
        }
        Ok(naming)
    }

    /// What must hold when the names are written.
    pub fn compares(&self) -> Vec<Compare> {
        let both = |(digest, generation): &(String, i64)| {
            let generation = Target::Mod(*generation);
            [
                Compare::key(key::blob_generation(digest), CompareOp::Equal, generation),
                Compare::absent(key::blob_gone(digest)),
            ]
        };
        self.0.iter().flat_map(both).collect()
    }

    /// Writes the names, as those of the key `by`; under a lease they go with it.
    pub fn names(&self, by: &[u8], lease: Option<i64>) -> Vec<Op> {
        let name = |(digest, _): &(String, i64)| Op::Put {
            key: key::blob_named_by(digest, by),
            value: Vec::new(),
            lease,
        };
        self.0.iter().map(name).collect()
    }
}
