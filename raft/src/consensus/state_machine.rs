//! openraft's view of the state: applies entries, which takes memory alone; builds and installs snapshots on threads
//! that may wait for the disk.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};

use crate::Error;
use crate::snapshot::{Snapshot, Snapshots};
use crate::state::State;
use crate::type_config::{LogId, Membership, SnapshotMeta, TypeConfig};

/// Entries applied in one batch: sharing makes each cheaper, and a reader waits for at most this many.
const APPLIED_AT_ONCE: usize = 512;

/// The state machine.
#[derive(Clone)]
pub(crate) struct StateMachine {
    pub(crate) state: Arc<State>,
    pub(crate) snapshots: Arc<Snapshots>,
}

type RaftSnapshot = openraft::alias::SnapshotOf<TypeConfig, Snapshot>;

impl StateMachine {
    /// Does what may touch the disk on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StateMachine) -> Result<T, Error> + Send + 'static,
    ) -> io::Result<T> {
        let machine = self.clone();
        let done = crate::task::blocking(move || work(&machine)).await;
        done.map_err(io::Error::other)
    }

    /// Reads a snapshot to its end. Where it is damaged that is an error, and a new one is made of the state.
    pub(crate) async fn check(&self, snapshot: Snapshot) -> io::Result<()> {
        self.blocking(move |machine| {
            let Err(damage) = snapshot.check() else {
                return Ok(());
            };
            // Whoever sends to another follower may have made one already.
            let newest = machine.snapshots.newest();
            if newest.is_some_and(|newest| Arc::ptr_eq(&newest.file, &snapshot.file)) {
                tracing::error!(%damage, "the snapshot is damaged; a new one is made of the state");
                machine.state.snapshot(&machine.snapshots)?;
            }
            Err(damage)
        })
        .await
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Snapshot;
    type SnapshotBuilder = StateMachine;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Membership)> {
        Ok(self.state.applied())
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(crate::limit!("applied_at_once", APPLIED_AT_ONCE));
        while let Some(chunk) = chunks.next().await {
            let mut entries = Vec::with_capacity(chunk.len());
            let mut responders = Vec::with_capacity(chunk.len());
            for item in chunk {
                let (entry, responder) = item?;
                entries.push(entry);
                responders.push(responder);
            }
            let mut responders = responders.into_iter();
            let mut left = entries.as_slice();
            while !left.is_empty() {
                self.state.room().await;
                let answers = self.state.apply(left).map_err(io::Error::other)?;
                left = &left[answers.len()..];
                for (answer, responder) in answers.into_iter().zip(&mut responders) {
                    if let Some(responder) = responder {
                        responder.send(answer);
                    }
                }
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> StateMachine {
        self.clone()
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: Snapshot) -> io::Result<()> {
        self.blocking(move |machine| {
            let kept = machine.snapshots.keep(snapshot.path())?;
            machine.state.install(&kept)
        })
        .await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        let newest = self.snapshots.newest();
        Ok(newest.map(|snapshot| RaftSnapshot {
            meta: snapshot.meta.clone(),
            snapshot,
        }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        let snapshot = self
            .blocking(|machine| machine.state.snapshot(&machine.snapshots))
            .await?;
        Ok(RaftSnapshot {
            meta: snapshot.meta.clone(),
            snapshot,
        })
    }
}
