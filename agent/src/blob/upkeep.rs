//! What a node does for the blobs that it has: checks them once a day, and has fetched what was damaged.

use std::time::Duration;

use pipes_job::blobs::Keeper;
use tokio::time::Instant;
use tracing::{error, warn};

use super::{Blobs, Digest, Error};

/// How often each blob is read against its digest.
const CHECK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs until the agent stops, with the keeper that fetches what keys name and has collected what none names.
pub async fn tend(blobs: Blobs, keeper: Keeper) -> anyhow::Result<()> {
    tokio::join!(keeper.run(), look_after(&blobs, &keeper));
    Ok(())
}

async fn look_after(blobs: &Blobs, keeper: &Keeper) {
    let mut check_at = Instant::now() + CHECK_EVERY;
    loop {
        tokio::select! {
            lost = blobs.holder().store().lost() => {
                lost.iter().for_each(|digest| keeper.is_lost(&digest.to_string()));
            }
            () = tokio::time::sleep_until(check_at) => {
                match blobs.read_all().await {
                    Ok((_, bad)) => bad.iter().for_each(|digest| keeper.is_lost(&digest.to_string())),
                    Err(error) => error!(%error, "the blobs cannot be read"),
                }
                check_at = Instant::now() + CHECK_EVERY;
            }
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
        let store = self.holder().store().clone();
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
