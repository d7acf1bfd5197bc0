//! The nodes whose presence is on record, followed by a watch: a dead one's goes with its lease, about 3 s after its last
//! word. Renewing a lease writes nothing, so an idle cluster tells nothing here.

use std::collections::{BTreeMap, BTreeSet};

use pipes_raft::Store;
use tokio::sync::watch;

use crate::follow::{self, Change, Follow};
use crate::keys;
use crate::lifecycle::{Kind, Lifecycle};

/// Follows them until the agent stops; the first change is that they are known.
pub fn follow(store: Store, lifecycle: &Lifecycle) -> watch::Receiver<BTreeSet<u64>> {
    let (sender, known) = watch::channel(BTreeSet::new());
    let stopping = lifecycle.stopping();
    lifecycle.spawn(Kind::Part, "presences of nodes", async move {
        let mut follow = Follow::new(store, keys::presences());
        let mut known = BTreeMap::new();
        while let Some(change) = stopping.run_until_cancelled(follow.next()).await {
            apply(&mut known, change);
            sender.send_replace(known.keys().copied().collect());
        }
        Ok(())
    });
    known
}

fn apply(known: &mut BTreeMap<u64, ()>, change: Change) {
    follow::fold(known, &keys::presences(), change, |_, _| Some(()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipes_raft::{Event, EventKind, KeyValue};

    #[test]
    fn nodes_come_and_go_with_their_keys() {
        let kv = |id| KeyValue {
            key: keys::presence(id),
            ..KeyValue::default()
        };
        let event = |kind, id| Event {
            kind,
            kv: kv(id),
            prev: None,
        };
        let mut known = [(9, ())].into();
        apply(&mut known, Change::All(vec![kv(1), kv(2)]));
        let events = vec![event(EventKind::Delete, 1), event(EventKind::Put, 3)];
        apply(&mut known, Change::Events(events));
        assert_eq!(known.into_keys().collect::<Vec<_>>(), [2, 3]);
    }
}
