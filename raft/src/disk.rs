//! The state in sled: records, leases, and how far the log is applied, all changed in one batch.
//!
//! Nothing here needs to survive a power loss: what is lost or torn is seen when it is opened, set aside, and made
//! anew from the snapshot and the log. So nothing is ever flushed on purpose but at a shutdown, and an idle store
//! writes nothing.
//!
//! ```text
//! r + revision (12 octets)   a record          l + id (8 octets)   a lease          m   the meta
//! every value: layout u8 | crc u32 | bincode
//! ```
//!
//! The meta also counts the records and sums up their checksums: records that sled lost without a word are missed.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::format::u32_at;
use crate::group::{self, LogId, Membership};
use crate::mvcc::{Changes, Database, Record, Records, Revision};

/// sled's page cache. Values are read from the file beyond it; an agent's memory is bounded (40 MiB idle).
const CACHE_BYTES: u64 = 4 * 1024 * 1024;
/// The layout of the values.
const VALUE_VERSION: u8 = 1;
/// Records written in one batch when a whole state is loaded.
const LOAD_BATCH: usize = 1000;

/// What is known of the state as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The last entry applied.
    pub(crate) applied: Option<LogId>,
    /// The members as of then.
    pub(crate) membership: Membership,
    /// The store's revision.
    pub(crate) revision: i64,
    /// The revision up to which history is forgotten.
    pub(crate) compacted: i64,
    /// How many records there are.
    records: u64,
    /// The wrapping sum of the checksums of all records with their revisions.
    sum: u64,
}

/// An open sled with one state in it.
pub(crate) struct Disk {
    db: sled::Db,
    dir: PathBuf,
}

impl Records for Disk {
    fn record(&self, revision: Revision) -> Result<Option<Record>, Error> {
        match self
            .db
            .get(record_key(revision))
            .map_err(|error| self.told(&error))?
        {
            Some(value) => Ok(Some(self.decode(&value)?)),
            None => Ok(None),
        }
    }
}

impl Disk {
    /// Opens the state in `dir`, making an empty one if there is none. sled panics on some damage: that is an error
    /// like any other here.
    pub(crate) fn open(dir: &Path) -> Result<Disk, Error> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        let opened = std::panic::catch_unwind(AssertUnwindSafe(move || config.open()));
        let told = |why: String| Error::Corrupt(format!("{}: {why}", dir.display()));
        let db = opened
            .map_err(|_| told("sled cannot read it".into()))?
            .map_err(|error| told(error.to_string()))?;
        Ok(Disk {
            db,
            dir: dir.to_path_buf(),
        })
    }

    /// Reads the whole state and checks it; nothing if none was ever stored.
    pub(crate) fn load(&self) -> Result<Option<(Meta, Database)>, Error> {
        let Some(meta) = self.db.get(b"m").map_err(|error| self.told(&error))? else {
            return Ok(None);
        };
        let meta: Meta = self.decode(&meta)?;
        let mut database = Database::default();
        for item in self.db.scan_prefix(b"l") {
            let (key, value) = item.map_err(|error| self.told(&error))?;
            let id = key
                .get(1..)
                .and_then(|id| id.try_into().ok())
                .ok_or_else(|| self.damaged())?;
            database
                .leases
                .restore(i64::from_be_bytes(id), self.decode(&value)?);
        }
        let (mut records, mut sum) = (0, 0u64);
        for item in self.db.scan_prefix(b"r") {
            let (key, value) = item.map_err(|error| self.told(&error))?;
            let revision = Revision::from_bytes(&key[1..]).ok_or_else(|| self.damaged())?;
            let record: Record = self.decode(&value)?;
            database.restore(revision, &record);
            records += 1;
            sum = sum.wrapping_add(weight(&key, &value));
        }
        if (records, sum) != (meta.records, meta.sum) {
            return Err(Error::Corrupt(format!(
                "{}: {records} records were found where {} were stored",
                self.dir.display(),
                meta.records
            )));
        }
        database.revision = meta.revision;
        database.compacted = meta.compacted;
        Ok(Some((meta, database)))
    }

    /// Stores changes and the meta after them in one batch.
    pub(crate) fn store(&self, changes: &Changes, meta: &mut Meta) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        for (id, ttl_ms) in &changes.leases {
            match ttl_ms {
                Some(ttl_ms) => batch.insert(&lease_key(*id), self.encode(ttl_ms)?),
                None => batch.remove(&lease_key(*id)),
            }
        }
        for (revision, record) in &changes.records {
            let (key, value) = (record_key(*revision), self.encode(record)?);
            meta.records += 1;
            meta.sum = meta.sum.wrapping_add(weight(&key, &value));
            batch.insert(&key, value);
        }
        batch.insert(b"m", self.encode(meta)?);
        self.db.apply_batch(batch).map_err(|error| self.told(&error))
    }

    /// Removes records that nobody can reach any more.
    pub(crate) fn remove(&self, revisions: &[Revision], meta: &mut Meta) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        for revision in revisions {
            let key = record_key(*revision);
            if let Some(value) = self.db.get(key).map_err(|error| self.told(&error))? {
                meta.records -= 1;
                meta.sum = meta.sum.wrapping_sub(weight(&key, &value));
                batch.remove(&key);
            }
        }
        batch.insert(b"m", self.encode(meta)?);
        self.db.apply_batch(batch).map_err(|error| self.told(&error))
    }

    /// Fills an empty sled with a state as a snapshot gives it. The meta comes last: a half-filled sled has none.
    pub(crate) fn fill(
        &self,
        mut meta: Meta,
        leases: &[(i64, u64)],
        records: &mut dyn Iterator<Item = Result<(Revision, Record), Error>>,
    ) -> Result<(), Error> {
        (meta.records, meta.sum) = (0, 0);
        let mut batch = sled::Batch::default();
        for (id, ttl_ms) in leases {
            batch.insert(&lease_key(*id), self.encode(ttl_ms)?);
        }
        let mut waiting = 0;
        for item in records {
            let (revision, record) = item?;
            let (key, value) = (record_key(revision), self.encode(&record)?);
            meta.records += 1;
            meta.sum = meta.sum.wrapping_add(weight(&key, &value));
            batch.insert(&key, value);
            waiting += 1;
            if waiting == LOAD_BATCH {
                self.db
                    .apply_batch(std::mem::take(&mut batch))
                    .map_err(|error| self.told(&error))?;
                waiting = 0;
            }
        }
        self.db.apply_batch(batch).map_err(|error| self.told(&error))?;
        self.db
            .insert(b"m", self.encode(&meta)?)
            .map_err(|error| self.told(&error))?;
        self.flush()
    }

    /// The records from `from` up to and with revision `upto`, in order.
    pub(crate) fn records(
        &self,
        from: Revision,
        upto: i64,
    ) -> impl Iterator<Item = Result<(Revision, Record), Error>> + '_ {
        let end = record_key(Revision::first_of(upto.saturating_add(1)));
        self.db.range(record_key(from)..end).map(move |item| {
            let (key, value) = item.map_err(|error| self.told(&error))?;
            let revision = Revision::from_bytes(&key[1..]).ok_or_else(|| self.damaged())?;
            Ok((revision, self.decode(&value)?))
        })
    }

    /// Hands what sled holds back to the kernel, so that the next opening has less to do again.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.db.flush().map(drop).map_err(|error| self.told(&error))
    }

    /// The folder it lies in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, Error> {
        let mut out = vec![VALUE_VERSION, 0, 0, 0, 0];
        group::encode_into(value, &mut out).map_err(|error| Error::Corrupt(error.to_string()))?;
        let crc = crc32fast::hash(&out[5..]);
        out[1..5].copy_from_slice(&crc.to_le_bytes());
        Ok(out)
    }

    fn decode<T: DeserializeOwned>(&self, value: &[u8]) -> Result<T, Error> {
        let is_whole =
            value.len() >= 5 && value[0] == VALUE_VERSION && u32_at(value, 1) == crc32fast::hash(&value[5..]);
        if !is_whole {
            return Err(self.damaged());
        }
        group::decode(&value[5..]).map_err(|_| self.damaged())
    }

    fn damaged(&self) -> Error {
        Error::Corrupt(format!("{}: a value in it does not check", self.dir.display()))
    }

    fn told(&self, error: &sled::Error) -> Error {
        Error::Disk(format!("{}: {error}", self.dir.display()))
    }
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

/// What a record adds to the sum; the checksum of its value stands in the value.
fn weight(key: &[u8], value: &[u8]) -> u64 {
    let of_value = value.get(1..5).map_or(0, |crc| u32_at(crc, 0));
    u64::from(crc32fast::hash(key)) << 32 | u64::from(of_value)
}
