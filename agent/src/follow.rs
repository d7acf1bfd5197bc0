//! A prefix of the store, listed once and then watched: first all, then the changes in order.
//!
//! ```text
//! next() -> All([...])     the state at revision R
//! next() -> Events([...])  what changed at R+1, R+2, ...
//! next() -> All([...])     again, after the history in between was compacted
//! ```
//!
//! Whoever follows forgets what it knew at `All`. An error of the store is no end: it is tried again with growing rests.

use std::collections::BTreeMap;
use std::str::FromStr;

use pipes_raft::{Consistency, Event, EventKind, KeyValue, Range, Store, Watch};
use tracing::debug;

use crate::keys;
use crate::retry::Backoff;

/// What is new.
#[derive(Debug)]
pub enum Change {
    /// All that there is; what was known before is void.
    All(Vec<KeyValue>),
    /// What changed since, in order.
    Events(Vec<Event>),
}

/// Takes a change of what lies under `prefix` into a map by the rest of each key, a name or a number; `read` gives what a key
/// says, if anything.
pub fn fold<K: Ord + FromStr, V>(
    known: &mut BTreeMap<K, V>,
    prefix: &[u8],
    change: Change,
    read: impl Fn(&str, &KeyValue) -> Option<V>,
) {
    let key = |kv: &KeyValue| keys::after(&kv.key, prefix)?.parse().ok();
    fold_by(known, change, key, |kv| {
        read(keys::after(&kv.key, prefix).unwrap_or_default(), kv)
    });
}

/// The same into a map by what `key` makes of each.
pub fn fold_by<K: Ord, V>(
    known: &mut BTreeMap<K, V>,
    change: Change,
    key: impl Fn(&KeyValue) -> Option<K>,
    read: impl Fn(&KeyValue) -> Option<V>,
) {
    let put = |known: &mut BTreeMap<K, V>, kv: &KeyValue| {
        if let Some(key) = key(kv)
            && let Some(value) = read(kv)
        {
            known.insert(key, value);
        }
    };
    match change {
        Change::All(all) => {
            known.clear();
            all.iter().for_each(|kv| put(known, kv));
        }
        Change::Events(events) => {
            for event in events {
                match event.kind {
                    EventKind::Put => put(known, &event.kv),
                    EventKind::Delete => drop(key(&event.kv).and_then(|key| known.remove(&key))),
                }
            }
        }
    }
}

/// Follows a prefix.
pub struct Follow {
    store: Store,
    prefix: Vec<u8>,
    watch: Option<Watch>,
}

impl Follow {
    /// Follows every key that begins with `prefix`.
    pub fn new(store: Store, prefix: Vec<u8>) -> Follow {
        Follow {
            store,
            prefix,
            watch: None,
        }
    }

    /// What is new; may be dropped and called again without losing anything but a listing.
    pub async fn next(&mut self) -> Change {
        let mut backoff = Backoff::default();
        loop {
            let error = match &mut self.watch {
                Some(watch) => match watch.next().await {
                    Ok(event) => return Change::Events(vec![event]),
                    Err(error) => {
                        self.watch = None;
                        error
                    }
                },
                None => match self.list().await {
                    Ok(all) => return Change::All(all),
                    Err(error) => {
                        backoff.rest().await;
                        error
                    }
                },
            };
            debug!(prefix = %String::from_utf8_lossy(&self.prefix), %error, "following anew");
        }
    }

    async fn list(&mut self) -> Result<Vec<KeyValue>, pipes_raft::Error> {
        let range = Range::prefix(self.prefix.clone());
        let end = range.end.clone();
        let all = self.store.range(range, Consistency::Linearizable).await?;
        self.watch = Some(self.store.watch(self.prefix.clone(), end, all.revision + 1));
        Ok(all.kvs)
    }
}
