//! Which nodes are present, each with the lease of its life: their keys, followed by a watch.

use std::collections::BTreeMap;
use std::time::Duration;

use pipes_raft::{Consistency, Error, EventKind, Range, Watch, prefix_end};
use tracing::debug;

use crate::jobs::Jobs;
use crate::key;

/// The rest before they are listed anew after an error.
const REST: Duration = Duration::from_millis(500);

impl Jobs {
    /// Follows them for ever.
    pub(super) async fn follow_presences(&self) {
        loop {
            let error = match self.list_presences().await {
                Ok(watch) => self.watch_presences(watch).await,
                Err(error) => error,
            };
            debug!(%error, "presences are followed anew");
            self.clock().sleep(REST).await;
        }
    }

    async fn list_presences(&self) -> Result<Watch, Error> {
        let prefix = key::presences();
        let listed = self
            .store()
            .range(Range::prefix(prefix.clone()), Consistency::Linearizable)
            .await?;
        let present = listed
            .kvs
            .iter()
            .filter_map(|kv| Some((key::read_presence(&kv.key)?, kv.lease)));
        self.are_present(present.collect());
        let end = Some(prefix_end(&prefix));
        Ok(self.store().watch(prefix, end, listed.revision + 1))
    }

    async fn watch_presences(&self, mut watch: Watch) -> Error {
        loop {
            let event = match watch.next().await {
                Ok(event) => event,
                Err(error) => return error,
            };
            let Some(node) = key::read_presence(&event.kv.key) else {
                continue;
            };
            let mut present = self.0.present.borrow().clone();
            match event.kind {
                EventKind::Put => present.insert(node, event.kv.lease),
                EventKind::Delete => present.remove(&node),
            };
            self.are_present(present);
        }
    }

    /// Takes note; what waits here is nobody's any more where this agent's own life is another one.
    fn are_present(&self, present: BTreeMap<u64, i64>) {
        let node = self.parts().node;
        let (before, now) = (
            self.0.present.borrow().get(&node).copied(),
            present.get(&node).copied(),
        );
        if before != now && before.is_some() {
            self.queue().forget_waiting();
        }
        self.0.present.send_if_modified(|known| {
            let is_new = *known != present;
            *known = present;
            is_new
        });
        if before != now {
            // What waits may begin.
            self.0.queued.notify_one();
        }
    }
}
