//! The state in sled: records, leases, and how far the log is applied.
//!
//! Nothing here needs to survive a power loss: what is lost or torn is seen when it is opened, set aside, and made
//! anew from the snapshot and the log. `memtable.rs` decides when something is stored; its flusher alone writes.
//!
//! ```text
//! r + revision (12 octets)   where a block of records from that revision on lies (block.rs, block_files.rs): layout 4,
//!                            or in layout 1 the block itself
//! l + id (8 octets)          a lease
//! m                          the meta, which comes last: records without it were stored half, and are removed; its
//!                            layout is 3, since 1 had no digest and 2 no clock
//! every value: layout u8 | crc u32 | body
//! ```
//!
//! What is removed, and how its space comes back, is in `sled/removal.rs`; copies are in `sled/copy.rs`.
//!
//! The meta also counts the records and sums up their checksums: records that sled lost without a word are missed.

#[cfg(not(sim))]
mod copy;
mod removal;

pub(super) use removal::remove_dir;

#[cfg(sim)]
use pipes_sim_seam::sled;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::block;
use super::block_files::{BlockFiles, Place};
use super::panics::guarded;
use crate::Error;
use crate::format::u32_at;
use crate::mvcc::{Changes, Database, Record, Records, Revision};
use crate::snapshot::meta::{Meta, MetaWithoutClock, MetaWithoutDigest};
use crate::type_config;

/// sled's page cache, for what says where blocks lie: some ten thousand of them fill it. An agent's memory is bounded
/// (40 MiB idle).
const CACHE_BYTES: u64 = 4 * 1024 * 1024;
/// The layout of the values, and of blocks.
const VALUE_VERSION: u8 = 1;
/// The layout of a block's place, and the newest there is.
const PLACE_VERSION: u8 = 4;
/// The layout of the meta.
const META_VERSION: u8 = 3;
/// The layout of a meta without a clock.
const META_WITHOUT_CLOCK: u8 = 2;
/// Octets before a value's body.
const VALUE_HEAD_LEN: usize = 5;

/// What is stored beside leases and records: the meta, and by what lost records are missed.
#[derive(Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) meta: Meta,
    /// How many records there are, and the wrapping sum of their checksums.
    tally: (u64, u64),
}

/// An open sled with one state in it.
pub(super) struct Sled {
    db: sled::Db,
    files: BlockFiles,
    dir: PathBuf,
}

impl Records for Sled {
    fn record(&self, revision: Revision) -> Result<Option<Record>, Error> {
        guarded(&self.dir, || self.read_record(revision))
    }
}

/// A block that checks, with its head.
struct Block(Vec<u8>);

impl Block {
    fn records(&self) -> impl Iterator<Item = Option<block::Encoded<'_>>> {
        block::records(self.0.get(VALUE_HEAD_LEN..).unwrap_or_default())
    }
}

impl Sled {
    fn read_record(&self, revision: Revision) -> Result<Option<Record>, Error> {
        let Some((key, value)) = self.block_of(revision)? else {
            return Ok(None);
        };
        let Some(found) = self.read_block(&key, value)? else {
            return Ok(None);
        };
        for encoded in found.records() {
            let encoded = encoded.ok_or_else(|| self.damaged())?;
            if encoded.revision == revision {
                return encoded.record().ok_or_else(|| self.damaged()).map(Some);
            }
        }
        Ok(None)
    }
}

/// How long this process's former handle may take to be gone: a thread of sled's own lets go of the lock some time after
/// the handle was dropped, and tells nobody. Other processes are kept out by the lock on the whole folder.
const LOCKED_MAX: Duration = Duration::from_secs(5);
const LOCKED_POLL: Duration = Duration::from_millis(5);

fn is_full(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull)
}

fn is_locked(error: &sled::Error) -> bool {
    // sled wraps the system's error in one of its own, of which only the text is left.
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

impl Sled {
    /// Opens the state in `dir`, making an empty one if there is none. sled panics on some damage: that is an error
    /// like any other here (`panics.rs`). [`Error::Disk`] says that the disk is full.
    pub(super) fn open(dir: &Path) -> Result<Sled, Error> {
        let corrupt = |why: String| Error::Corrupt(format!("{}: {why}", dir.display()));
        let begun = Instant::now();
        let db = loop {
            let config = sled::Config::new()
                .path(dir)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None);
            match guarded(dir, || Ok(config.open()))? {
                Ok(db) => break db,
                Err(error) if is_locked(&error) && begun.elapsed() < LOCKED_MAX => {
                    std::thread::sleep(LOCKED_POLL);
                }
                // Nothing is wrong with it.
                Err(error) if is_full(&error) => {
                    return Err(Error::Disk(format!("{}: {error}", dir.display())));
                }
                Err(error) => return Err(corrupt(error.to_string())),
            }
        };
        Ok(Sled {
            db,
            files: BlockFiles::open(dir)?,
            dir: dir.to_path_buf(),
        })
    }

    /// Reads the whole state and checks it.
    pub(super) fn load(&self) -> Result<(Stored, Database), Error> {
        guarded(&self.dir, || self.read_all())
    }

    /// Closes one that could not be read, which may fail like the reading.
    pub(super) fn give_up(self) {
        let dir = self.dir.clone();
        let closed = guarded(&dir, move || {
            drop(self);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::debug!(%error, "it could not be closed either");
        }
    }

    fn read_all(&self) -> Result<(Stored, Database), Error> {
        #[cfg(test)]
        assert!(
            !self.dir.join(tests::UNREADABLE).exists(),
            "a test has it unreadable"
        );
        let nothing = || Error::Corrupt(format!("{}: there is nothing in it", self.dir.display()));
        let meta = self
            .db
            .get(b"m")
            .map_err(|error| self.io_error(&error))?
            .ok_or_else(nothing)?;
        let stored = self.decode_meta(&meta)?;
        let mut database = Database::default();
        for item in self.db.scan_prefix(b"l") {
            let (key, value) = item.map_err(|error| self.io_error(&error))?;
            let id = key
                .get(1..)
                .and_then(|id| id.try_into().ok())
                .ok_or_else(|| self.damaged())?;
            database
                .leases
                .restore(i64::from_be_bytes(id), self.decode(&value)?);
        }
        let mut tally = (0u64, 0u64);
        for item in self.db.scan_prefix(b"r") {
            let (key, value) = item.map_err(|error| self.io_error(&error))?;
            let first = Revision::from_bytes(&key[1..]).ok_or_else(|| self.damaged())?;
            if first.main > stored.meta.revision {
                self.db.remove(&key).map_err(|error| self.io_error(&error))?;
                continue;
            }
            if let Some(place) = self.place(&value)? {
                self.files.found(place);
            }
            let block = self.read_block(&key, value)?.ok_or_else(|| self.damaged())?;
            for encoded in block.records() {
                let encoded = encoded.ok_or_else(|| self.damaged())?;
                let record = encoded.record().ok_or_else(|| self.damaged())?;
                database.restore(encoded.revision, &record);
                tally = (tally.0 + 1, tally.1.wrapping_add(encoded.checksum()));
            }
        }
        if tally != stored.tally {
            let (found, expected) = (tally.0, stored.tally.0);
            let dir = self.dir.display();
            return Err(Error::Corrupt(format!(
                "{dir}: the {found} records in it are not the {expected} stored"
            )));
        }
        database.revision = stored.meta.revision;
        database.compacted = stored.meta.compacted;
        Ok((stored, database))
    }

    /// Stores changes, and last the meta after them.
    pub(super) fn store(&self, stored: &mut Stored, changes: &Changes, meta: Meta) -> Result<(), Error> {
        let mut records = changes
            .records
            .iter()
            .map(|(revision, record)| Ok((*revision, record)));
        let added = self.store_records(&mut records)?;
        let mut batch = sled::Batch::default();
        for (id, ttl_ms) in &changes.leases {
            match ttl_ms {
                Some(ttl_ms) => batch.insert(&lease_key(*id), self.encode(ttl_ms)?),
                None => batch.remove(&lease_key(*id)),
            }
        }
        stored.meta = meta;
        stored.tally = (stored.tally.0 + added.0, stored.tally.1.wrapping_add(added.1));
        batch.insert(b"m", self.encode_meta(stored)?);
        self.apply(batch)
    }

    /// Fills an empty sled with a state as a snapshot gives it.
    pub(super) fn fill(
        &self,
        meta: Meta,
        leases: &[(i64, u64)],
        records: &mut dyn Iterator<Item = Result<(Revision, Record), Error>>,
    ) -> Result<(), Error> {
        let tally = self.store_records(records)?;
        let mut batch = sled::Batch::default();
        for (id, ttl_ms) in leases {
            batch.insert(&lease_key(*id), self.encode(ttl_ms)?);
        }
        batch.insert(b"m", self.encode_meta(&Stored { meta, tally })?);
        self.apply(batch)?;
        self.flush()
    }

    /// Stores records in blocks; gives how many they are and the sum of their checksums.
    fn store_records<R: std::borrow::Borrow<Record>>(
        &self,
        records: &mut dyn Iterator<Item = Result<(Revision, R), Error>>,
    ) -> Result<(u64, u64), Error> {
        let mut tally = (0, 0u64);
        let (mut value, mut first, mut count) = (empty_value(), None, 0);
        for item in records {
            let (revision, record) = item?;
            if count == block::RECORDS_MAX || value.len() >= block::BYTES_MAX {
                self.insert_block(first, std::mem::replace(&mut value, empty_value()))?;
                (first, count) = (None, 0);
            }
            first = first.or(Some(revision));
            let checksum = block::push(&mut value, revision, record.borrow());
            let checksum = checksum.map_err(|error| Error::Corrupt(error.to_string()))?;
            tally = (tally.0 + 1, tally.1.wrapping_add(checksum));
            count += 1;
        }
        self.insert_block(first, value)?;
        Ok(tally)
    }

    #[cfg(test)]
    pub(super) fn store_records_alone(&self, changes: &Changes) -> Result<(), Error> {
        self.store_records(
            &mut changes
                .records
                .iter()
                .map(|(revision, record)| Ok((*revision, record))),
        )
        .map(drop)
    }

    /// Stores a meta as programs did that knew no digest.
    #[cfg(test)]
    pub(super) fn store_without_digest(&self, stored: &Stored) -> Result<(), Error> {
        let meta = MetaWithoutDigest::from(stored.meta.clone());
        self.db
            .insert(b"m", self.encode(&(meta, stored.tally))?)
            .map(drop)
            .map_err(|error| self.io_error(&error))
    }

    fn insert_block(&self, first: Option<Revision>, mut value: Vec<u8>) -> Result<(), Error> {
        let Some(first) = first else { return Ok(()) };
        seal(&mut value);
        let place = self.encode_place(self.files.append(&value)?)?;
        self.db
            .insert(record_key(first), place)
            .map(drop)
            .map_err(|error| self.io_error(&error))
    }

    /// The records from `from` up to and with revision `upto`, in order.
    pub(super) fn records(
        &self,
        from: Revision,
        upto: i64,
    ) -> Result<impl Iterator<Item = Result<(Revision, Record), Error>> + '_, Error> {
        let start = match guarded(&self.dir, || self.block_of(from))? {
            Some((key, _)) => key,
            None => record_key(from).as_slice().into(),
        };
        let end = Revision::first_of(upto.saturating_add(1));
        let mut blocks = self.db.range(start..record_key(end).as_slice().into());
        let next = move || {
            let next = || blocks.next().transpose().map_err(|error| self.io_error(&error));
            guarded(&self.dir, next).transpose()
        };
        Ok(std::iter::from_fn(next).flat_map(move |item| self.decode_block(item, from, end)))
    }

    fn decode_block(
        &self,
        item: Result<(sled::IVec, sled::IVec), Error>,
        from: Revision,
        end: Revision,
    ) -> Vec<Result<(Revision, Record), Error>> {
        let decoded = item.and_then(|(key, value)| {
            let mut records = Vec::new();
            let Some(block) = guarded(&self.dir, || self.read_block(&key, value))? else {
                return Ok(records);
            };
            for encoded in block.records() {
                let encoded = encoded.ok_or_else(|| self.damaged())?;
                if (from..end).contains(&encoded.revision) {
                    records.push(Ok((
                        encoded.revision,
                        encoded.record().ok_or_else(|| self.damaged())?,
                    )));
                }
            }
            Ok(records)
        });
        decoded.unwrap_or_else(|error| vec![Err(error)])
    }

    /// The block of a key as sled had it; nothing if it was removed since.
    fn read_block(&self, key: &[u8], mut value: sled::IVec) -> Result<Option<Block>, Error> {
        loop {
            let Some(place) = self.place(&value)? else {
                self.body(&value)?;
                return Ok(Some(Block(value.to_vec())));
            };
            if let Some(block) = self.files.read(place)? {
                self.body(&block)?;
                return Ok(Some(Block(block)));
            }
            match self.db.get(key).map_err(|error| self.io_error(&error))? {
                // It was written anew elsewhere.
                Some(newer) if newer != value => value = newer,
                Some(_) => return Err(self.damaged()),
                None => return Ok(None),
            }
        }
    }

    /// Where the block is that sled has this value for; nothing if that is the block itself.
    fn place(&self, value: &[u8]) -> Result<Option<Place>, Error> {
        match value.first() {
            Some(&PLACE_VERSION) => self.decode(value).map(Some),
            _ => Ok(None),
        }
    }

    /// The block that `revision` would be in.
    fn block_of(&self, revision: Revision) -> Result<Option<(sled::IVec, sled::IVec)>, Error> {
        let found = self
            .db
            .range(b"r".to_vec()..=record_key(revision).to_vec())
            .next_back();
        found.transpose().map_err(|error| self.io_error(&error))
    }

    fn apply(&self, batch: sled::Batch) -> Result<(), Error> {
        self.db.apply_batch(batch).map_err(|error| self.io_error(&error))
    }

    /// Hands what sled holds back to the kernel, so that the next opening has less to do again.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.db.flush().map(drop).map_err(|error| self.io_error(&error))
    }

    /// The folder it lies in.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, Error> {
        let mut out = empty_value();
        type_config::encode_into(value, &mut out).map_err(|error| Error::Corrupt(error.to_string()))?;
        seal(&mut out);
        Ok(out)
    }

    fn encode_place(&self, place: Place) -> Result<Vec<u8>, Error> {
        let mut value = self.encode(&place)?;
        value[0] = PLACE_VERSION;
        Ok(value)
    }

    fn encode_meta(&self, stored: &Stored) -> Result<Vec<u8>, Error> {
        let mut value = self.encode(stored)?;
        value[0] = META_VERSION;
        Ok(value)
    }

    fn decode_meta(&self, value: &[u8]) -> Result<Stored, Error> {
        let (meta, tally) = match value.first() {
            Some(&META_VERSION) => return self.decode(value),
            Some(&META_WITHOUT_CLOCK) => {
                let (meta, tally): (MetaWithoutClock, _) = self.decode(value)?;
                (meta.into(), tally)
            }
            _ => {
                let (meta, tally): (MetaWithoutDigest, _) = self.decode(value)?;
                (meta.into(), tally)
            }
        };
        Ok(Stored { meta, tally })
    }

    fn decode<T: DeserializeOwned>(&self, value: &[u8]) -> Result<T, Error> {
        type_config::decode(self.body(value)?).map_err(|_| self.damaged())
    }

    /// The body of a value that checks.
    fn body<'v>(&self, value: &'v [u8]) -> Result<&'v [u8], Error> {
        match value.split_at_checked(VALUE_HEAD_LEN) {
            Some((head, body))
                if (VALUE_VERSION..=PLACE_VERSION).contains(&head[0])
                    && u32_at(head, 1) == crc32fast::hash(body) =>
            {
                Ok(body)
            }
            _ => Err(self.damaged()),
        }
    }

    fn damaged(&self) -> Error {
        Error::Corrupt(format!("{}: a value in it does not check", self.dir.display()))
    }

    fn io_error(&self, error: &sled::Error) -> Error {
        Error::Disk(format!("{}: {error}", self.dir.display()))
    }
}

/// A value whose body is to be appended; then it is sealed.
fn empty_value() -> Vec<u8> {
    vec![VALUE_VERSION, 0, 0, 0, 0]
}

fn seal(value: &mut [u8]) {
    let crc = crc32fast::hash(&value[VALUE_HEAD_LEN..]);
    value[1..VALUE_HEAD_LEN].copy_from_slice(&crc.to_le_bytes());
}

fn record_key(revision: Revision) -> [u8; 13] {
    let mut key = [b'r'; 13];
    key[1..].copy_from_slice(&revision.to_bytes());
    key
}

fn lease_key(id: i64) -> [u8; 9] {
    let mut key = [b'l'; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}

#[cfg(test)]
pub(super) mod tests {
    /// A file of this name in its folder makes a state panic while it is read.
    pub(crate) const UNREADABLE: &str = "unreadable";
}
