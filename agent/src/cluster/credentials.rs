//! Who may speak in realm `pipes`: the operators' keys and the tokens, as the store says, handed to the router.
//!
//! A cluster begins with the operators of its configuration. They are written once, together with the cluster's id, so
//! that an operator who was removed later does not come back with a restart.

use std::collections::BTreeMap;

use pipes_raft::{Compare, KeyValue, Op, Store, Txn};
use pipes_router::{Credentials, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{oneshot, watch};
use tracing::warn;

use crate::cluster::tokens::{self, Bearer, ByName, BySha256, Token, Tokens};
use crate::config::{self, Config};
use crate::follow::{Change, Follow, fold_by};
use crate::keys;
use crate::lifecycle::Lifecycle;
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

/// Has the router handed every change, until the agent stops; fires when it knows all for the first time.
pub fn start(store: &Store, router: &Router, parts: &Lifecycle) -> (oneshot::Receiver<()>, Tokens) {
    let (known, are_known) = oneshot::channel();
    let (told, tokens) = Tokens::channel();
    let followed = follow(store.clone(), router.clone(), told, known);
    parts.spawn_until_stop("credentials", followed);
    (are_known, tokens)
}

/// Hands the router every change, and `told` the tokens that live by their names; `known` is told when it knows all for
/// the first time. Runs until dropped.
async fn follow(
    store: Store,
    router: Router,
    told: watch::Sender<ByName>,
    known: oneshot::Sender<()>,
) -> anyhow::Result<()> {
    let mut operators = Follow::new(store.clone(), keys::operators());
    let mut made = Follow::new(store, keys::tokens());
    let (mut operator_names, mut all_tokens) = (BTreeMap::<_, Named>::new(), BySha256::new());
    apply(&mut operator_names, operators.next().await, &keys::operators());
    apply(&mut all_tokens, made.next().await, &keys::tokens());
    let mut known = Some(known);
    loop {
        let living = tokens::living(&all_tokens);
        let names = operator_names.iter();
        let credentials = Credentials {
            operators: names.map(|(key, named)| (*key, named.name.clone())).collect(),
            tokens: living
                .iter()
                .filter_map(|(sha256, token)| Some((*sha256, admitted(token)?)))
                .collect(),
        };
        // Before anybody can come with one.
        let by_name = living
            .into_iter()
            .map(|(sha256, token)| (token.name.clone(), Bearer { sha256, token }));
        told.send_replace(by_name.collect());
        router.set_credentials(credentials);
        if let Some(known) = known.take() {
            // Whoever waits for it may have been told to stop.
            let _ = known.send(());
        }
        tokio::select! {
            change = operators.next() => apply(&mut operator_names, change, &keys::operators()),
            change = made.next() => apply(&mut all_tokens, change, &keys::tokens()),
        }
    }
}

/// What the router is to know of a token.
fn admitted(token: &Token) -> Option<pipes_router::Token> {
    let rights = token.rights();
    if rights.is_none() {
        warn!(
            token = token.name,
            role = token.role,
            "a token of an unknown role lets nobody in"
        );
    }
    Some(pipes_router::Token {
        name: token.name.clone(),
        rights: rights?,
        is_narrow: token.workflow.is_some(),
    })
}

/// Takes a change of records whose keys end in 32 bytes in hexadecimal digits.
fn apply<T: DeserializeOwned>(records: &mut BTreeMap<[u8; 32], T>, change: Change, prefix: &[u8]) {
    let key = |kv: &KeyValue| config::public_key(keys::after(&kv.key, prefix)?);
    fold_by(records, change, key, |kv| {
        let record = serde_json::from_slice(&kv.value);
        if record.is_err() {
            warn!(key = %String::from_utf8_lossy(&kv.key), "a credential that is none is left out");
        }
        record.ok()
    });
}
