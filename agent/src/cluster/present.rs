//! The nodes whose presence is on record, followed by a watch: a dead one's goes with its lease, about 3 s after its last
//! word. Renewing a lease writes nothing, so an idle cluster tells nothing here.

use std::collections::BTreeSet;

use pipes_raft::{EventKind, Store};
use tokio::sync::watch;

use crate::follow::{Change, Follow};
use crate::keys;
use crate::lifecycle::{Kind, Lifecycle};

/// Follows them until the agent stops; the first change is that they are known.
pub fn follow(store: Store, lifecycle: &Lifecycle) -> watch::Receiver<BTreeSet<u64>> {
    let (sender, known) = watch::channel(BTreeSet::new());
    let stopping = lifecycle.stopping();
    lifecycle.spawn(Kind::Part, "presences of nodes", async move {
        let mut follow = Follow::new(store, keys::presences());
        while let Some(change) = stopping.run_until_cancelled(follow.next()).await {
            sender.send_modify(|known| apply(known, change));
        }
        Ok(())
    });
    known
}

fn apply(known: &mut BTreeSet<u64>, change: Change) {
    match change {
        Change::All(all) => *known = all.iter().filter_map(|kv| id(&kv.key)).collect(),
        Change::Events(events) => {
            for event in events {
                match (event.kind, id(&event.kv.key)) {
                    (EventKind::Put, Some(id)) => drop(known.insert(id)),
                    (EventKind::Delete, Some(id)) => drop(known.remove(&id)),
                    (_, None) => {}
                }
            }
        }
    }
}

fn id(key: &[u8]) -> Option<u64> {
    keys::after(key, &keys::presences())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipes_raft::{Event, KeyValue};

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
        let mut known = [9].into();
        apply(&mut known, Change::All(vec![kv(1), kv(2)]));
        let events = vec![event(EventKind::Delete, 1), event(EventKind::Put, 3)];
        apply(&mut known, Change::Events(events));
        assert_eq!(known, [2, 3].into());
    }
}
