//! What a voter does for its blobs by itself: fetches all that keys name, and checks what it has once a day.
//!
//! `/pipes/blobs/DIGEST/by/KEY` names a blob; a voter that lacks it fetches it, again and again with growing rests until it
//! has it. The daily check reads every file against its digest; a bad one is removed and fetched anew.

use std::collections::BTreeSet;
use std::time::Duration;

use pipes_raft::{EventKind, KeyValue};
use tokio::time::Instant;
use tracing::{error, warn};

use super::{Blobs, Digest};
use crate::follow::{Change, Follow};
use crate::keys;
use crate::retry::Backoff;

/// How often each blob is read against its digest.
const CHECK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is still to be fetched is tried again at least so often.
const REST_MAX: Duration = Duration::from_secs(60);

/// Runs until the agent stops.
pub async fn tend(blobs: Blobs, store: pipes_raft::Store) -> anyhow::Result<()> {
    let mut named = Follow::new(store, keys::blobs());
    let mut missing = BTreeSet::new();
    let mut backoff = Backoff::up_to(REST_MAX);
    let mut check_at = Instant::now() + CHECK_EVERY;
    loop {
        tokio::select! {
            change = named.next() => {
                missing.extend(newly_named(change).into_iter().filter(|digest| !blobs.has(digest)));
                backoff.reset();
            }
            () = backoff.rest(), if !missing.is_empty() => {}
            () = tokio::time::sleep_until(check_at) => {
                missing.extend(bad_ones(&blobs).await);
                check_at = Instant::now() + CHECK_EVERY;
            }
        }
        if blobs.is_voter() {
            fetch(&blobs, &mut missing).await;
        }
    }
}

fn newly_named(change: Change) -> Vec<Digest> {
    let of = |kv: &KeyValue| {
        let (digest, rest) = keys::after(&kv.key, &keys::blobs())?.split_once('/')?;
        if rest.starts_with("by/") {
            digest.parse().ok()
        } else {
            None
        }
    };
    match change {
        Change::All(all) => all.iter().filter_map(of).collect(),
        Change::Events(events) => events
            .iter()
            .filter(|event| event.kind == EventKind::Put)
            .filter_map(|event| of(&event.kv))
            .collect(),
    }
}

async fn fetch(blobs: &Blobs, missing: &mut BTreeSet<Digest>) {
    for digest in std::mem::take(missing) {
        if let Err(error) = blobs.ensure(&digest).await {
            warn!(%digest, %error, "a blob that is named is missing here");
            missing.insert(digest);
        }
    }
}

/// Blobs whose bytes are not what their names say.
async fn bad_ones(blobs: &Blobs) -> Vec<Digest> {
    let store = blobs.store().clone();
    let checked = tokio::task::spawn_blocking(move || {
        let mut bad = Vec::new();
        for digest in store.digests().unwrap_or_default() {
            match store.check(&digest) {
                Ok(true) => {}
                Ok(false) => bad.push(digest),
                Err(error) => {
                    error!(%digest, %error, "a blob cannot be read");
                    bad.push(digest);
                }
            }
        }
        bad
    });
    checked.await.unwrap_or_default()
}
