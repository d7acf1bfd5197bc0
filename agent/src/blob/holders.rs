//! All who hold blobs, as this node reaches them: what `pipes_job::blobs` wants to know and done.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use pipes_job::seams::{Disk, Holders};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{Blobs, Digest};

/// How long a peer may take to say whether it awaits a blob's name, or to delete it; one that does not is as one that is
/// down, and looks itself when it is back.
const PEER_WITHIN: Duration = Duration::from_secs(3);

#[async_trait]
impl Holders for Blobs {
    async fn has(&self, digest: &str) -> bool {
        match digest.parse() {
            Ok(digest) => self.is_kept(&digest).await,
            Err(_) => false,
        }
    }

    async fn sync(&self, digest: &str) -> bool {
        let Ok(digest) = digest.parse() else { return false };
        let synced = self.spread_again(digest).await;
        if let Err(error) = &synced {
            warn!(%digest, %error, "a blob is on no majority of the voters");
        }
        synced.is_ok_and(|is_here| is_here)
    }

    async fn fetch(&self, digest: &str) -> bool {
        let Ok(digest) = digest.parse() else { return true };
        match self.ensure(&digest).await {
            Ok(_) => true,
            Err(error) => {
                warn!(%digest, %error, "a blob cannot be fetched");
                false
            }
        }
    }

    async fn is_awaited(&self, digest: &str) -> bool {
        if self.holder().rule().is_awaited(digest) {
            return true;
        }
        let Ok(digest) = digest.parse::<Digest>() else {
            return false;
        };
        let asked = self.peers().into_iter().map(|address| async move {
            let asked = timeout(PEER_WITHIN, self.client().awaits(address, digest.bytes()));
            matches!(asked.await, Ok(Ok(true)))
        });
        join_all(asked).await.contains(&true)
    }

    async fn delete(&self, digest: &str) {
        let Ok(digest) = digest.parse::<Digest>() else {
            return;
        };
        let told = self.peers().into_iter().map(|address| async move {
            let told = timeout(PEER_WITHIN, self.client().delete(address, digest.bytes()));
            match told.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%address, %digest, %error, "a peer did not delete a blob"),
                Err(_) => debug!(%address, %digest, "a peer did not delete a blob in time"),
            }
        });
        let own = async {
            if let Err(error) = self.holder().delete(&digest).await {
                warn!(%digest, %error, "a blob cannot be deleted");
            }
        };
        tokio::join!(join_all(told), own);
    }
}

#[async_trait]
impl Disk for Blobs {
    fn keeps_all(&self) -> bool {
        self.is_voter()
    }

    fn is_here(&self, digest: &str) -> bool {
        digest.parse().is_ok_and(|digest: Digest| self.has(&digest))
    }

    async fn list(&self, digests: &str) -> Vec<String> {
        let (store, digests) = (self.holder().store().clone(), digests.to_owned());
        let listed = tokio::task::spawn_blocking(move || store.beginning(&digests));
        match listed.await {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => {
                warn!(%error, "the blobs cannot be listed");
                Vec::new()
            }
            // The agent stops.
            Err(_) => Vec::new(),
        }
    }
}

impl Blobs {
    /// Addresses of all other nodes that are known.
    fn peers(&self) -> Vec<SocketAddr> {
        let members = self.members();
        let all = members.voters.iter().chain(&members.others);
        let others = all.filter(|(id, _)| *id != members.me);
        others.filter_map(|(_, address)| *address).collect()
    }
}
