//! The right to name a blob, which is a race with its collection that the store decides.
//!
//! ```text
//! read the generation of the blob's group -> ask the holders -> write, if the generation is as it was and nobody collects it
//! ```

use pipes_raft::{Compare, CompareOp, Op, Store, Target};

use crate::error::Error;
use crate::key;
use crate::record::Content;
use crate::seams::Holders;

/// The right to name one blob; nothing for bytes that lie in a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming(Option<(String, i64)>);

impl Naming {
    /// Bytes in a key of their own name nothing.
    pub fn none() -> Naming {
        Naming(None)
    }

    /// Takes the right to name what `content` is, which the holders say that they have.
    pub async fn of(store: &Store, holders: &dyn Holders, content: &Content) -> Result<Naming, Error> {
        let Some(digest) = content.digest() else {
            return Ok(Naming(None));
        };
        let generation = store.get(key::blob_generation(&digest)).await?;
        let generation = generation.map_or(0, |kept| kept.mod_revision);
        if !holders.has(&digest).await {
            return Err(Error::BlobMissing(digest));
        }
        Ok(Naming(Some((digest, generation))))
    }

    /// What must hold when the name is written.
    pub fn compares(&self) -> Vec<Compare> {
        let Some((digest, generation)) = &self.0 else {
            return Vec::new();
        };
        vec![
            Compare::key(
                key::blob_generation(digest),
                CompareOp::Equal,
                Target::Mod(*generation),
            ),
            Compare::absent(key::blob_gone(digest)),
        ]
    }

    /// Writes the name, as one of the key `by`.
    pub fn name(&self, by: &[u8]) -> Option<Op> {
        let (digest, _) = self.0.as_ref()?;
        Some(Op::put(key::blob_named_by(digest, by), Vec::new()))
    }
}
