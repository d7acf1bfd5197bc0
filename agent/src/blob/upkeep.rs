//! What a voter does for its blobs by itself: fetches all that keys name, and checks what it has once a day.
//!
//! `/pipes/blobs/DIGEST/by/KEY` names a blob; a voter that lacks it fetches it, again and again with growing rests until it
//! has it. The daily check reads every file against its digest; a bad one is removed and fetched anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pipes_raft::{EventKind, KeyValue};
use tokio::time::Instant;
use tracing::{error, warn};

use super::{Blobs, Digest, Error};
use crate::follow::{Change, Follow};
use crate::keys;
use crate::retry::Backoff;

/// How often each blob is read against its digest.
const CHECK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is still to be fetched is tried again at least so often.
const REST_MAX: Duration = Duration::from_secs(60);

/// Runs until the agent stops.
pub async fn tend(blobs: Blobs, store: pipes_raft::Store) -> anyhow::Result<()> {
    let mut names = Follow::new(store, keys::blobs());
    let mut named = Named::default();
    let mut missing = BTreeSet::new();
    let mut backoff = Backoff::up_to(REST_MAX);
    let mut check_at = Instant::now() + CHECK_EVERY;
    loop {
        tokio::select! {
            change = names.next() => {
                missing.extend(named.take(change).into_iter().filter(|digest| !blobs.has(digest)));
                backoff.reset();
            }
            () = blobs.store().removed() => {
                missing.extend(named.by.keys().filter(|digest| !blobs.has(digest)));
                backoff.reset();
            }
            () = backoff.rest(), if !missing.is_empty() => {}
            () = tokio::time::sleep_until(check_at) => {
                match blobs.read_all().await {
                    Ok((_, bad)) => missing.extend(bad),
                    Err(error) => error!(%error, "the blobs cannot be read"),
                }
                check_at = Instant::now() + CHECK_EVERY;
            }
        }
        if blobs.is_voter() {
            fetch(&blobs, &mut missing).await;
        }
    }
}

/// What keys name, each with the keys that do.
#[derive(Default)]
struct Named {
    by: BTreeMap<Digest, BTreeSet<Vec<u8>>>,
}

impl Named {
    /// Takes a change in; gives what is named now.
    fn take(&mut self, change: Change) -> Vec<Digest> {
        let events = match change {
            Change::All(all) => {
                self.by.clear();
                let put = |kv| (EventKind::Put, kv);
                all.into_iter().map(put).collect::<Vec<_>>()
            }
            Change::Events(events) => events.into_iter().map(|event| (event.kind, event.kv)).collect(),
        };
        let mut newly = Vec::new();
        for (kind, kv) in events {
            let Some(digest) = named_by(&kv) else { continue };
            if kind == EventKind::Put {
                self.by.entry(digest).or_default().insert(kv.key);
                newly.push(digest);
            } else if let Some(keys) = self.by.get_mut(&digest) {
                keys.remove(&kv.key);
                if keys.is_empty() {
                    self.by.remove(&digest);
                }
            }
        }
        newly
    }
}

/// What a key names, if it is `/pipes/blobs/DIGEST/by/KEY`.
fn named_by(kv: &KeyValue) -> Option<Digest> {
    let (digest, rest) = keys::after(&kv.key, &keys::blobs())?.split_once('/')?;
    rest.starts_with("by/").then(|| digest.parse().ok())?
}

async fn fetch(blobs: &Blobs, missing: &mut BTreeSet<Digest>) {
    for digest in std::mem::take(missing) {
        if let Err(error) = blobs.ensure(&digest).await {
            warn!(%digest, %error, "a blob that is named is missing here");
            missing.insert(digest);
        }
    }
}

impl Blobs {
    /// Reads every blob here against its digest, and fetches those anew that are not what their names say: how many are
    /// sound, and each that was bad with whether it was fetched.
    pub async fn check_all(&self) -> Result<(usize, Vec<(Digest, bool)>), Error> {
        let (count, bad) = self.read_all().await?;
        let mut fetched = Vec::with_capacity(bad.len());
        for digest in bad {
            let anew = self.ensure(&digest).await;
            if let Err(error) = &anew {
                warn!(%digest, %error, "a damaged blob cannot be fetched anew");
            }
            fetched.push((digest, anew.is_ok()));
        }
        Ok((count - fetched.len(), fetched))
    }

    async fn read_all(&self) -> Result<(usize, Vec<Digest>), Error> {
        let store = self.store().clone();
        let read = tokio::task::spawn_blocking(move || {
            let digests = store.digests()?;
            let count = digests.len();
            let is_bad = |digest: &Digest| match store.check(digest) {
                Ok(is_sound) => !is_sound,
                Err(error) => {
                    error!(%digest, %error, "a blob cannot be read");
                    true
                }
            };
            Ok((count, digests.into_iter().filter(is_bad).collect()))
        });
        read.await.unwrap_or(Err(Error::Stopping))
    }
}
