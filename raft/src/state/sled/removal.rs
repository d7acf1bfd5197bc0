//! What nobody can reach any more goes: records out of their blocks, and blocks' files once little is left in them.

#[cfg(sim)]
use pipes_sim_seam::sled;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Sled, Stored, VALUE_HEAD_LEN, empty_value, seal};
use crate::Error;
use crate::mvcc::Revision;

impl Sled {
    /// Removes records that nobody can reach any more.
    pub(in crate::state) fn remove(&self, stored: &mut Stored, revisions: &[Revision]) -> Result<(), Error> {
        let mut blocks: BTreeMap<sled::IVec, (sled::IVec, BTreeSet<Revision>)> = BTreeMap::new();
        for revision in revisions {
            if let Some((key, value)) = self.block_of(*revision)? {
                blocks
                    .entry(key)
                    .or_insert_with(|| (value, BTreeSet::new()))
                    .1
                    .insert(*revision);
            }
        }
        let mut batch = sled::Batch::default();
        let mut superseded = Vec::new();
        for (key, (value, removed)) in blocks {
            let mut left = empty_value();
            superseded.extend(self.place(&value)?);
            let block = self.read_block(&key, value)?.ok_or_else(|| self.damaged())?;
            for encoded in block.records() {
                let encoded = encoded.ok_or_else(|| self.damaged())?;
                if removed.contains(&encoded.revision) {
                    stored.tally = (
                        stored.tally.0 - 1,
                        stored.tally.1.wrapping_sub(encoded.checksum()),
                    );
                } else {
                    left.extend_from_slice(encoded.bytes);
                }
            }
            if left.len() == VALUE_HEAD_LEN {
                batch.remove(key);
            } else {
                seal(&mut left);
                batch.insert(key, self.encode_place(self.files.append(&left)?)?);
            }
        }
        batch.insert(b"m", self.encode_meta(stored)?);
        self.apply(batch)?;
        for place in superseded {
            self.files.supersede(place);
        }
        Ok(())
    }

    /// Gives space back: removes files that are empty, and writes anew what is left of one that nearly is. Says whether
    /// there may be more of them.
    pub(in crate::state) fn collect(&self) -> Result<bool, Error> {
        let Some(file) = self.files.sparse() else {
            return Ok(false);
        };
        if !self.files.is_empty(file) {
            self.move_blocks(file)?;
        }
        // What sled knows must be on the disk before what it knew goes.
        self.flush()?;
        #[cfg(not(sim))]
        self.sync()?;
        self.files.remove(file)?;
        Ok(true)
    }

    fn move_blocks(&self, file: u32) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        let mut superseded = Vec::new();
        for item in self.db.scan_prefix(b"r") {
            let (key, value) = item.map_err(|error| self.io_error(&error))?;
            let place = self.place(&value)?.filter(|place| place.file() == file);
            let Some(place) = place else { continue };
            let block = self.read_block(&key, value)?.ok_or_else(|| self.damaged())?;
            batch.insert(key, self.encode_place(self.files.append(&block.0)?)?);
            superseded.push(place);
        }
        self.apply(batch)?;
        for place in superseded {
            self.files.supersede(place);
        }
        Ok(())
    }

    /// Makes what sled holds durable: its own `flush` only asks for it.
    #[cfg(not(sim))]
    fn sync(&self) -> Result<(), Error> {
        let path = self.dir.join("db");
        let synced = std::fs::File::open(&path).and_then(|db| db.sync_all());
        synced.map_err(|error| crate::format::disk(&path, &error))
    }
}

/// Removes the folder of a state that is not used any more.
pub(in crate::state) fn remove_dir(path: &Path) {
    if let Err(error) = crate::fs::remove_dir_all(path) {
        tracing::warn!(%error, folder = %path.display(), "an old state could not be removed");
    }
}
