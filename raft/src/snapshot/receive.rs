//! Receiving a snapshot: pieces in order into a file beside the others.
//!
//! One at a time: a new sending takes the place of the one before. A piece that is not the next one is refused, and
//! the leader begins anew.

use crate::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::rpc::Piece;
use crate::snapshot::{Snapshot, Snapshots};
use crate::type_config::Vote;
use crate::{Error, format, task};

/// Takes pieces of snapshots.
pub(crate) struct Receiver {
    snapshots: Arc<Snapshots>,
    incoming: Mutex<Option<Incoming>>,
}

struct Incoming {
    from: (u64, u64),
    file: Arc<File>,
    path: PathBuf,
    received: u64,
}

impl Receiver {
    pub(crate) fn new(snapshots: Arc<Snapshots>) -> Receiver {
        Receiver {
            snapshots,
            incoming: Mutex::new(None),
        }
    }

    /// Takes a piece; with the last one gives the whole snapshot, checked.
    pub(crate) async fn take(&self, piece: Piece) -> Result<Option<(Vote, Snapshot)>, Error> {
        let mut incoming = self.incoming.lock().await;
        let from = (piece.leader, piece.sending);
        if piece.offset == 0 {
            let snapshots = self.snapshots.clone();
            let name = format!("from-{}", piece.leader);
            let (file, path) = task::blocking(move || snapshots.receive(&name)).await?;
            *incoming = Some(Incoming {
                from,
                file: Arc::new(file),
                path,
                received: 0,
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
        let (file, path) = (next.file.clone(), next.path.clone());
        next.received += piece.data.len() as u64;
        let (offset, last) = (piece.offset, piece.last);
        let written = path.clone();
        task::blocking(move || {
            file.write_all_at(&piece.data, offset)
                .map_err(|error| format::disk(&written, &error))
        })
        .await?;
        let Some(vote) = last else { return Ok(None) };
        *incoming = None;
        let snapshot = task::blocking(move || Snapshot::open(&path)).await?;
        Ok(Some((vote, snapshot)))
    }
}
