//! What can go wrong with a blob, and whose fault it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Digest;

/// Why a blob is not there or not kept. Cloned to all that waited for one fetch.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The disk; another try may succeed once it does.
    #[error("{path}: {source}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// Little space is left, which is kept for the store; the operator's to mend.
    #[error("no room: {free} bytes are free on the disk of {path}, {least} are kept free")]
    NoRoom {
        /// The folder of the blobs.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes kept for the store.
        least: u64,
    },
    /// Another try may succeed, once others are done.
    #[error("busy: {most} uploads are on their way here already")]
    Busy {
        /// So many at once.
        most: usize,
    },
    /// The bytes are not those that were named: whoever sent them erred.
    #[error("the bytes are {found}, not {expected}")]
    Mismatch {
        /// What was named.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Nobody who was asked has it; another may, later.
    #[error("no agent that was reached has {digest} ({asked})")]
    Absent {
        /// What was wanted.
        digest: Digest,
        /// Who was asked and what each said.
        asked: String,
    },
    /// It is not on a majority of the voters, so it may be lost; another try may succeed.
    #[error("{kept} of {voters} voters keep {digest}, which is no majority ({why})")]
    NoMajority {
        /// The blob.
        digest: Digest,
        /// Voters that have fsynced it.
        kept: usize,
        /// All voters.
        voters: usize,
        /// What the others said.
        why: String,
    },
    /// The agent stops.
    #[error("the agent stops")]
    Stopping,
}

impl Error {
    /// What to make of an I/O error at `path`.
    pub(super) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Disk {
            path,
            source: Arc::new(source),
        }
    }
}
