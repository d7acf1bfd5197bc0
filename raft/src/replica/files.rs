//! What lies in a replica's folder: opened and held against each other, and read again when somebody asks whether it is
//! still what was written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Replica;
use super::damage::Found;
use crate::clock::Clock;
use crate::log::{self, Closer, Log};
use crate::snapshot::Snapshots;
use crate::state::State;
use crate::{Content, Error, task};

/// What lies on the disk beside the state.
pub(super) struct Files {
    dir: PathBuf,
    log: log::Reader,
    pub(super) snapshots: Arc<Snapshots>,
    /// Held while all of it is read again: one at a time, since a copy takes room.
    verifying: Arc<tokio::sync::Mutex<()>>,
}

/// All that a replica begins with.
pub(super) struct Opened {
    pub(super) files: Files,
    pub(super) state: Arc<State>,
    pub(super) log: Log,
    pub(super) closer: Closer,
    pub(super) length: log::Length,
}

/// Opens what lies in `dir`; an error where less lies there than the node acknowledged.
pub(super) fn open(dir: &Path, is_new: bool, clock: Arc<Clock>) -> Result<Opened, Error> {
    let snapshots = Arc::new(Snapshots::open(&dir.join("snapshots"))?);
    let (log, closer) = Log::open(&dir.join("log"), is_new)?;
    let state = Arc::new(State::open(dir, &snapshots, log.synced(), clock)?);
    let found = Found {
        dir,
        vote: log.reader().vote(),
        last: log.last(),
        purged: log.purged(),
        snapshot: snapshots.newest().and_then(|snapshot| snapshot.meta.last_log_id),
        applied: state.applied().0,
    };
    found.check()?;
    snapshots.pass_over_before(log.purged());
    let files = Files {
        dir: dir.to_path_buf(),
        log: log.reader(),
        snapshots,
        verifying: Arc::default(),
    };
    Ok(Opened {
        files,
        state,
        length: log.length(),
        log,
        closer,
    })
}

impl Files {
    /// Reads log and snapshot against their checksums.
    fn verify(&self) -> Result<(), Error> {
        self.log.verify(&self.dir.join("log"))?;
        self.snapshots.newest().map_or(Ok(()), |newest| newest.check())
    }
}

impl Replica {
    /// All keys at `revision`, once that is applied here, summed up on a thread that may wait for the disk; an error
    /// where what lies there is not what was written.
    pub(super) async fn content(&self, revision: i64, limit: Duration) -> Result<Content, Error> {
        let mut progress = self.state.progress();
        let reached = progress.wait_for(|progress| progress.revision >= revision || progress.is_stopped);
        timeout(limit, reached)
            .await
            .map_err(|_| Error::Timeout)?
            .map_err(|_| Error::Stopped)?;
        let (state, files) = (self.state.clone(), self.files.clone());
        let Ok(verifying) = files.verifying.clone().try_lock_owned() else {
            return Err(Error::Refused("another check is under way".into()));
        };
        task::blocking(move || {
            let _verifying = verifying;
            files.verify()?;
            #[cfg(not(sim))]
            state.verify()?;
            state.content(revision)
        })
        .await
    }
}
