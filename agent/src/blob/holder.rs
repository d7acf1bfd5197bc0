//! This node as one of those who hold blobs: its files, by the rule for them (`pipes_job::blobs`).
//!
//! Always: what is answered, kept or deleted of a digest is so while nothing else is done with that digest here.

use pipes_job::blobs::Holder as Rule;

use super::draft::Writer;
use super::{Digest, Error, Store};

/// The files and their rule. A cheap handle.
#[derive(Clone)]
pub struct Holder {
    store: Store,
    rule: Rule,
}

impl Holder {
    /// Holds the files of `store`.
    pub fn new(store: Store, rule: Rule) -> Holder {
        Holder { store, rule }
    }

    /// The files.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The rule.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Whether a blob is here for good. Who asks is about to name it.
    pub async fn confirm(&self, digest: &Digest) -> Result<bool, Error> {
        // To read a large one takes long, and others wait for their turn.
        if self.store.sound(digest).await?.is_none() {
            return Ok(false);
        }
        let name = digest.to_string();
        let _alone = self.rule.alone(&name).await;
        let is_here = self.store.confirm(digest).await?;
        if is_here {
            self.rule.awaits(&name);
        }
        Ok(is_here)
    }

    /// Keeps what was written, fsynced, under its digest, which is to be `expected`; it is going to be named.
    pub async fn keep(&self, writer: Writer, expected: Option<Digest>) -> Result<Digest, Error> {
        let digest = self.place(writer, expected).await?;
        self.rule.awaits(&digest.to_string());
        Ok(digest)
    }

    /// Keeps a copy of what another has.
    pub async fn keep_copy(&self, writer: Writer, digest: Digest) -> Result<(), Error> {
        self.place(writer, Some(digest)).await.map(drop)
    }

    async fn place(&self, writer: Writer, expected: Option<Digest>) -> Result<Digest, Error> {
        let sealed = writer.seal(expected).await?;
        let _alone = self.rule.alone(&sealed.digest().to_string()).await;
        sealed.place().await
    }

    /// Deletes a blob that is being collected; what is not is left. True: it is not here.
    pub async fn delete(&self, digest: &Digest) -> Result<bool, Error> {
        let alone = self.rule.alone(&digest.to_string()).await;
        if self.store.find(digest).is_none() {
            return Ok(true);
        }
        if !alone.may_delete().await {
            return Ok(false);
        }
        // Nothing is awaited between the permission and this.
        self.store.remove(digest)?;
        Ok(true)
    }
}
