//! Who may speak in realm `pipes`: the operators' keys and the tokens, as the store says, handed to the router.
//!
//! A cluster begins with the operators of its configuration. They are written once, together with the cluster's id, so
//! that an operator who was removed later does not come back with a restart.

use std::collections::HashMap;

use pipes_raft::{Compare, EventKind, KeyValue, Op, Store, Txn};
use pipes_router::{Credentials, Router};
use serde::Deserialize;
use tracing::warn;

use crate::config::{self, Config};
use crate::follow::{Change, Follow};
use crate::keys;
use crate::retry::Backoff;

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Writes the cluster's id and first operators, unless somebody has.
pub async fn found(store: &Store, config: &Config) -> anyhow::Result<()> {
    let mut success = vec![Op::put(keys::cluster_id(), config.cluster_id.clone())];
    for operator in &config.operators {
        let value = serde_json::to_vec(&serde_json::json!({ "name": operator.name }))?;
        success.push(Op::put(keys::operator(&operator.key), value));
    }
    let txn = Txn {
        compares: vec![Compare::absent(keys::cluster_id())],
        success,
        failure: Vec::new(),
    };
    let mut backoff = Backoff::default();
    loop {
        // Written twice it is written once: it asks that nobody has.
        match store.txn(txn.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) => warn!(%error, "the cluster's first operators are not written yet"),
        }
        backoff.rest().await;
    }
}

/// Hands the router every change; `known` is told when it knows all for the first time. Runs until dropped.
pub async fn follow(
    store: Store,
    router: Router,
    known: tokio::sync::oneshot::Sender<()>,
) -> anyhow::Result<()> {
    let mut operators = Follow::new(store.clone(), keys::operators());
    let mut tokens = Follow::new(store, keys::tokens());
    let mut operator_names = HashMap::new();
    let mut token_names = HashMap::new();
    apply(&mut operator_names, operators.next().await, &keys::operators());
    apply(&mut token_names, tokens.next().await, &keys::tokens());
    let mut known = Some(known);
    loop {
        router.set_credentials(Credentials {
            operators: operator_names.clone(),
            tokens: token_names.clone(),
        });
        if let Some(known) = known.take() {
            // Whoever waits for it may have been told to stop.
            let _ = known.send(());
        }
        tokio::select! {
            change = operators.next() => apply(&mut operator_names, change, &keys::operators()),
            change = tokens.next() => apply(&mut token_names, change, &keys::tokens()),
        }
    }
}

fn apply(names: &mut HashMap<[u8; 32], String>, change: Change, prefix: &[u8]) {
    let key_of = |kv: &KeyValue| config::public_key(keys::after(&kv.key, prefix)?);
    let put = |names: &mut HashMap<_, _>, kv: &KeyValue| {
        let named = serde_json::from_slice::<Named>(&kv.value).ok();
        match (key_of(kv), named) {
            (Some(key), Some(named)) => {
                names.insert(key, named.name);
            }
            _ => warn!(key = %String::from_utf8_lossy(&kv.key), "a credential that is none is left out"),
        }
    };
    match change {
        Change::All(all) => {
            names.clear();
            all.iter().for_each(|kv| put(names, kv));
        }
        Change::Events(events) => {
            for event in events {
                match event.kind {
                    EventKind::Put => put(names, &event.kv),
                    EventKind::Delete => {
                        key_of(&event.kv).map(|key| names.remove(&key));
                    }
                }
            }
        }
    }
}
