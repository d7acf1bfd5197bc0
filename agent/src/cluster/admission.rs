//! The list of nodes that may connect, as the configuration and the store say.
//!
//! ```text
//! agent.toml [[members]]  n1 n2 n3       the first list: whoever of it joins late is awaited
//! /pipes/nodes/4          {"name":"n4"}  came later
//! /pipes/removed/n3       {...}          and so n3 is on it no more
//! ```

use std::collections::BTreeMap;

use pipes_raft::{KeyValue, Store};
use tokio::sync::watch;

use crate::cluster::nodes::Record;
use crate::config::Config;
use crate::follow::{Change, Follow, fold};
use crate::keys;
use crate::lifecycle::Lifecycle;
use crate::mesh::admitted::Names;

/// The first list.
pub fn first(config: &Config) -> Names {
    config.members.iter().map(|member| member.name.clone()).collect()
}

/// Has every change told, until the agent stops.
pub fn start(store: &Store, config: &Config, told: watch::Sender<Names>, parts: &Lifecycle) {
    let followed = follow(store.clone(), first(config), told);
    parts.spawn_until_stop("list of nodes", followed);
}

/// Tells every change. Runs until dropped.
async fn follow(store: Store, first: Names, told: watch::Sender<Names>) -> anyhow::Result<()> {
    let mut records = Follow::new(store.clone(), keys::nodes());
    let mut barred = Follow::new(store, keys::removed());
    let (mut names, mut removed) = (BTreeMap::new(), BTreeMap::new());
    learn(&mut names, records.next().await);
    note(&mut removed, barred.next().await);
    loop {
        told.send_replace(list(&first, &names, &removed));
        tokio::select! {
            change = records.next() => learn(&mut names, change),
            change = barred.next() => note(&mut removed, change),
        }
    }
}

fn learn(names: &mut BTreeMap<String, String>, change: Change) {
    let read = |_: &str, kv: &KeyValue| Some(serde_json::from_slice::<Record>(&kv.value).ok()?.name);
    fold(names, &keys::nodes(), change, read);
}

fn note(removed: &mut BTreeMap<String, ()>, change: Change) {
    fold(removed, &keys::removed(), change, |_, _| Some(()));
}

fn list(first: &Names, records: &BTreeMap<String, String>, removed: &BTreeMap<String, ()>) -> Names {
    let all = first.iter().chain(records.values());
    all.filter(|name| !removed.contains_key(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_first_one_and_who_came_less_who_was_removed() {
        let first = Names::from(["n1".to_owned(), "n2".into(), "n3".into()]);
        let records = BTreeMap::from([("1".to_owned(), "n1".to_owned()), ("9".into(), "n4".into())]);
        let removed = BTreeMap::from([("n3".to_owned(), ())]);
        assert_eq!(
            list(&first, &records, &removed),
            Names::from(["n1".into(), "n2".into(), "n4".into()])
        );
    }
}
