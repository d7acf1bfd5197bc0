//! Receiving a snapshot: pieces in order into a file beside the others.
//!
//! One at a time: a new sending takes the place of the one before. A piece that is not the next one is refused, and
//! the leader begins anew. What is replaced, does not check, is not installed or gets no piece for [`IDLE_MAX`] is
//! removed.

use crate::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::rpc::Piece;
use crate::snapshot::{Snapshot, Snapshots};
use crate::type_config::Vote;
use crate::{Error, format, task};

/// A sending that gets no piece for so long has been given up: the sender waits for a minute for each answer.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// Takes pieces of snapshots.
pub(crate) struct Receiver {
    snapshots: Arc<Snapshots>,
    incoming: Arc<Mutex<Option<Incoming>>>,
    idle_max: Duration,
}

struct Incoming {
    from: (u64, u64),
    file: Arc<File>,
    part: Part,
    received: u64,
    _watched: AbortOnDropHandle<()>,
}

/// The file of a snapshot that came, removed with this unless it was given its own name meanwhile.
pub(crate) struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        match crate::fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = %self.0.display(), "half a snapshot could not be removed");
            }
            _ => {}
        }
    }
}

impl Receiver {
    pub(crate) fn new(snapshots: Arc<Snapshots>) -> Receiver {
        Receiver {
            snapshots,
            incoming: Arc::default(),
            idle_max: IDLE_MAX,
        }
    }

    /// Takes a piece; with the last one gives the whole snapshot, checked. Its file goes with the [`Part`].
    pub(crate) async fn take(&self, piece: Piece) -> Result<Option<(Vote, Snapshot, Part)>, Error> {
        let mut incoming = self.incoming.lock().await;
        let from = (piece.leader, piece.sending);
        if piece.offset == 0 {
            let snapshots = self.snapshots.clone();
            // Its number tells it from one of the same leader that is being installed.
            let name = format!("from-{}-{}", piece.leader, piece.sending);
            *incoming = None;
            let (file, path) = task::blocking(move || snapshots.receive(&name)).await?;
            *incoming = Some(Incoming {
                from,
                file: Arc::new(file),
                part: Part(path),
                received: 0,
                _watched: self.watch(from),
            });
        }
        let next = incoming
            .as_mut()
            .filter(|incoming| incoming.from == from && incoming.received == piece.offset);
        let Some(next) = next else {
            return Err(Error::Refused(
                "this piece of a snapshot is not the next one".into(),
            ));
        };
        let (file, path) = (next.file.clone(), next.part.0.clone());
        next.received += piece.data.len() as u64;
        let (offset, last) = (piece.offset, piece.last);
        let written = path.clone();
        task::blocking(move || {
            file.write_all_at(&piece.data, offset)
                .map_err(|error| format::disk(&written, &error))
        })
        .await?;
        let Some(vote) = last else { return Ok(None) };
        let Some(Incoming { part, .. }) = incoming.take() else {
            return Ok(None);
        };
        let snapshot = task::blocking(move || Snapshot::open(&path)).await;
        let snapshot = snapshot.inspect_err(|error| {
            tracing::warn!(%error, leader = from.0, "a snapshot that came is refused");
        })?;
        Ok(Some((vote, snapshot, part)))
    }

    /// Removes what came of a sending once nothing more comes.
    fn watch(&self, from: (u64, u64)) -> AbortOnDropHandle<()> {
        let (incoming, idle_max) = (Arc::downgrade(&self.incoming), self.idle_max);
        AbortOnDropHandle::new(tokio::spawn(task::scoped(async move {
            let mut seen = None;
            loop {
                tokio::time::sleep(idle_max).await;
                let Some(incoming) = incoming.upgrade() else {
                    return;
                };
                let mut incoming = incoming.lock().await;
                match incoming.as_ref().filter(|incoming| incoming.from == from) {
                    Some(now) if seen != Some(now.received) => seen = Some(now.received),
                    Some(_) => {
                        *incoming = None;
                        return;
                    }
                    None => return,
                }
            }
        })))
    }
}
