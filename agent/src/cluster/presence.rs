//! A node's presence: a lease that ends with it, and its record.
//!
//! ```text
//! /pipes/nodes/2      {"id":2,"name":"n2","address":"127.77.0.2","mesh":7071,"wamp":7072,...}   stays
//! /pipes/presence/2   {"id":2,"name":"n2","sick":null}   under a lease of 3 s, renewed each 500 ms, in the leader's memory
//! ```
//!
//! Runs on the store's runtime, so that streams at full speed never cost a node its lease. A lease that was lost (the
//! agent stood still) is taken anew. On an orderly stop it is given back, so that the others know at once. The lease of a
//! former life, of an agent that was killed and is back within it, is revoked before anything else: what hangs on it, or
//! is held by it, is nobody's.

use std::time::{Duration, Instant};

use pipes_raft::{Error, Store};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::nodes::Record;
use crate::keys;
use crate::retry::Backoff;

/// How long a node that says nothing counts as present.
pub const LEASE: Duration = Duration::from_secs(3);

/// How often it says so: five may be lost.
const RENEW_EVERY: Duration = Duration::from_millis(500);

/// How often a node without a replica asks who has one.
const LEARN_EVERY: Duration = Duration::from_secs(5);

/// How long giving the lease back may take at a stop; then it ends by itself.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// Keeps the node present until `stopping`; tells `present` when it is for the first time.
pub async fn keep(
    store: Store,
    record: Record,
    present: tokio::sync::oneshot::Sender<()>,
    stopping: CancellationToken,
) -> anyhow::Result<()> {
    let mut present = Some(present);
    let mut backoff = Backoff::default();
    let mut lease = None;
    let presence = async {
        revoke_former(&store, record.id).await;
        loop {
            match appear(&store, &record).await {
                Ok((granted, shown)) => {
                    lease = Some(granted);
                    backoff.reset();
                    if let Some(present) = present.take() {
                        // Whoever waits for it may have been told to stop.
                        let _ = present.send(());
                    }
                    renew(&store, &record, granted, shown).await;
                    warn!(node = record.id, "the node's lease was lost and is taken anew");
                }
                Err(error) => {
                    info!(node = record.id, %error, "the node is not present yet");
                    backoff.rest().await;
                }
            }
        }
    };
    let Some(()) = stopping.run_until_cancelled(presence).await else {
        if let Some(lease) = lease
            && !matches!(
                tokio::time::timeout(GIVE_BACK, store.revoke(lease)).await,
                Ok(Ok(_))
            )
        {
            info!(node = record.id, "the node's lease is left to end by itself");
        }
        return Ok(());
    };
    Ok(())
}

/// Ends the lease of a former life, if that goes on.
async fn revoke_former(store: &Store, node: u64) {
    let mut backoff = Backoff::default();
    loop {
        let revoked = match store.get(keys::presence(node)).await {
            Ok(Some(former)) if former.lease != 0 => store.revoke(former.lease).await,
            there => there.map(drop),
        };
        match revoked {
            Ok(()) | Err(Error::LeaseNotFound) => return,
            Err(error) => info!(node, %error, "a former lease is not revoked yet"),
        }
        backoff.rest().await;
    }
}

/// Writes the record where it differs, and the presence under a new lease.
async fn appear(store: &Store, record: &Record) -> anyhow::Result<(i64, Option<String>)> {
    let key = keys::node(record.id);
    let value = serde_json::to_vec(record)?;
    if store
        .get(key.clone())
        .await?
        .is_none_or(|there| there.value != value)
    {
        store.put(key, value, None).await?;
    }
    let lease = store.grant(LEASE, 0).await?;
    let sick = store.status().sick;
    show(store, record, sick.as_deref(), lease).await?;
    store.learn_group().await?;
    Ok((lease, sick))
}

/// Writes that the node is there, and why its replica is not, if so.
async fn show(
    store: &Store,
    record: &Record,
    sick: Option<&str>,
    lease: i64,
) -> Result<i64, pipes_raft::Error> {
    let presence = serde_json::json!({ "id": record.id, "name": record.name, "sick": sick });
    let value = presence.to_string();
    store.put(keys::presence(record.id), value, Some(lease)).await
}

/// Renews until the lease is gone; `shown` is why the replica is out, as the record says it.
async fn renew(store: &Store, record: &Record, lease: i64, mut shown: Option<String>) {
    let mut last = None;
    let mut learned = Instant::now();
    let mut ticks = tokio::time::interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match store.keep_alive(lease).await {
            Ok(_) => {
                last = None;
                if learned.elapsed() > LEARN_EVERY {
                    learned = Instant::now();
                    // The next time will do as well.
                    let _ = store.learn_group().await;
                }
                let sick = store.status().sick;
                if sick != shown && show(store, record, sick.as_deref(), lease).await.is_ok() {
                    shown = sick;
                }
            }
            Err(Error::LeaseNotFound) => return,
            Err(error) => {
                let why = error.to_string();
                if last.as_ref() != Some(&why) {
                    info!(why, "the node's lease was not renewed");
                }
                last = Some(why);
            }
        }
    }
}
