//! Blobs between nodes: on a majority before they are named, fetched where they are missing.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, Shared};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::draft::Writer;
use super::{Digest, Error, Holder};
use crate::lifecycle::{Kind, Lifecycle};
use crate::mesh::bulk;
use crate::retry::Backoff;

/// How often a voter is asked to keep a blob before its answer counts as no: a connection that rested too long or an
/// agent that is just starting deserves another try.
const PUT_TRIES: usize = 3;

/// How often the voters may change while a blob is spread before that is given up.
const CHANGES_MAX: usize = 5;

/// How long a node may take to say whether it has a blob before the next one is asked: time to read through one of some
/// gigabytes, which it does where it is not sure of it. One that is stopped would be waited for for a minute.
const SAYS_WITHIN: Duration = Duration::from_secs(10);

/// What is said of a node whose address is not known.
const NO_ADDRESS: &str = "its address is not known";

/// Who there is to keep blobs and to ask for them; one whose address is not known counts and is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// This node; 0 while it is no member.
    pub me: u64,
    /// The voters, this node too if it is one.
    pub voters: Vec<(u64, Option<SocketAddr>)>,
    /// All other nodes.
    pub others: Vec<(u64, Option<SocketAddr>)>,
}

/// Knows the members as they are now.
pub trait Group: Send + Sync + 'static {
    /// The members as they are now.
    fn members(&self) -> Members;
}

impl Group for pipes_raft::Store {
    fn members(&self) -> Members {
        let status = self.status();
        let with_address = |ids: &BTreeSet<u64>| {
            let address = |id| {
                status
                    .members
                    .get(id)
                    .and_then(|member| member.address.parse().ok())
            };
            ids.iter().map(|id| (*id, address(id))).collect()
        };
        Members {
            me: status.id.unwrap_or(0),
            voters: with_address(&status.voters),
            others: with_address(&status.learners),
        }
    }
}

type Fetch = Shared<BoxFuture<'static, Result<PathBuf, Error>>>;

struct Inner {
    holder: Holder,
    client: bulk::Client,
    group: Arc<dyn Group>,
    lifecycle: Lifecycle,
    fetches: Mutex<HashMap<Digest, Fetch>>,
}

/// The blobs of the cluster, seen from this node. Clones are the same one.
#[derive(Clone)]
pub struct Blobs(Arc<Inner>);

/// A blob that is being given to the cluster.
pub struct Upload {
    blobs: Blobs,
    writer: Writer,
}

impl Blobs {
    /// Blobs that `holder` has here and that are exchanged by `client` with `group`.
    pub fn new(holder: Holder, client: bulk::Client, group: Arc<dyn Group>, lifecycle: &Lifecycle) -> Blobs {
        let lifecycle = lifecycle.clone();
        Blobs(Arc::new(Inner {
            holder,
            client,
            group,
            lifecycle,
            fetches: Mutex::default(),
        }))
    }

    /// Begins a blob of about `size_hint` bytes.
    pub fn begin(&self, size_hint: u64) -> Result<Upload, Error> {
        Ok(Upload {
            blobs: self.clone(),
            writer: self.0.holder.store().begin(size_hint)?,
        })
    }

    /// Whether the blob lies here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.0.holder.store().find(digest).is_some()
    }

    /// Whether the blob is on a majority of the voters, here included; asks them.
    pub async fn is_kept(&self, digest: &Digest) -> bool {
        let members = self.0.group.members();
        let asked = members.voters.iter().map(|(id, address)| async {
            if *id == members.me {
                return self.0.holder.confirm(digest).await.unwrap_or(false);
            }
            match address {
                Some(address) => self.0.client.has(*address, digest.bytes()).await.unwrap_or(false),
                None => false,
            }
        });
        // A voter that is silent is waited for only as long as the answer hangs on it.
        let mut asked: FuturesUnordered<_> = asked.collect();
        let (mut kept, majority) = (0, members.voters.len() / 2 + 1);
        while kept < majority && kept + asked.len() >= majority {
            match asked.next().await {
                Some(has) => kept += usize::from(has),
                None => break,
            }
        }
        kept >= majority
    }

    /// The blob's file here, which is what its name says; fetched from another node if it is not here or damaged.
    pub async fn ensure(&self, digest: &Digest) -> Result<PathBuf, Error> {
        match self.0.holder.store().sound(digest).await {
            Ok(Some(path)) => return Ok(path),
            Ok(None) => {}
            // Another file takes the place of one that cannot be read.
            Err(error) => warn!(%digest, %error, "a blob cannot be read"),
        }
        let fetch = {
            let mut fetches = self.0.fetches.lock().unwrap_or_else(PoisonError::into_inner);
            fetches
                .entry(*digest)
                .or_insert_with(|| self.begin_fetch(*digest))
                .clone()
        };
        fetch.await
    }

    /// One fetch that all who want the blob wait for; it goes on if they go.
    fn begin_fetch(&self, digest: Digest) -> Fetch {
        let blobs = self.clone();
        let (done, outcome) = tokio::sync::oneshot::channel();
        let stopping = self.0.lifecycle.stopping();
        self.0.lifecycle.spawn(Kind::Work, "blob fetch", async move {
            let fetched = stopping
                .run_until_cancelled(blobs.fetch(digest))
                .await
                .unwrap_or(Err(Error::Stopping));
            blobs
                .0
                .fetches
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&digest);
            // Whoever wanted it may have gone.
            let _ = done.send(fetched);
            Ok(())
        });
        async move { outcome.await.unwrap_or(Err(Error::Stopping)) }
            .boxed()
            .shared()
    }

    async fn fetch(&self, digest: Digest) -> Result<PathBuf, Error> {
        let members = self.0.group.members();
        let mut asked = Vec::new();
        let peers = members
            .voters
            .iter()
            .chain(&members.others)
            .filter(|(id, _)| *id != members.me);
        for (id, address) in peers {
            match self.fetch_from(*address, digest).await {
                Ok(true) => {
                    let path = self.0.holder.store().find(&digest);
                    return path.ok_or(Error::Absent {
                        digest,
                        asked: "removed as it came".to_owned(),
                    });
                }
                Ok(false) => asked.push(format!("node {id} has none")),
                Err(why) => {
                    debug!(node = id, %digest, why, "a blob was not fetched");
                    asked.push(format!("node {id}: {why}"));
                }
            }
        }
        let asked = if asked.is_empty() {
            "there is no other".to_owned()
        } else {
            asked.join("; ")
        };
        Err(Error::Absent { digest, asked })
    }

    async fn fetch_from(&self, address: Option<SocketAddr>, digest: Digest) -> Result<bool, String> {
        let address = address.ok_or(NO_ADDRESS)?;
        let words = |error: &dyn std::error::Error| error.to_string();
        let asking = self.0.client.fetch(address, digest.bytes());
        let fetched = tokio::time::timeout(SAYS_WITHIN, asking).await;
        let fetched = fetched.map_err(|_| format!("silent for {SAYS_WITHIN:?}"))?;
        let fetched = fetched.map_err(|error| words(&error))?;
        let Some(mut body) = fetched else { return Ok(false) };
        let mut writer = self
            .0
            .holder
            .store()
            .begin(body.size())
            .map_err(|error| words(&error))?;
        while let Some(bytes) = body.next().await.map_err(|error| words(&error))? {
            writer.write(bytes).await.map_err(|error| words(&error))?;
        }
        body.end();
        let kept = self.0.holder.keep_copy(writer, digest).await;
        if let Err(error @ Error::Mismatch { .. }) = &kept {
            warn!(%address, %error, "a peer's blob is not what its name says");
        }
        kept.map(|()| true).map_err(|error| words(&error))
    }

    /// Returns once a majority of the voters has fsynced the blob, which lies here; the others get it meanwhile.
    async fn spread(&self, digest: Digest) -> Result<(), Error> {
        let mut members = self.0.group.members();
        for _ in 0..CHANGES_MAX {
            self.spread_to(digest, &members).await?;
            let now = self.0.group.members();
            if now.voters == members.voters {
                return Ok(());
            }
            members = now;
        }
        let (kept, voters, why) = (0, members.voters.len(), "the voters keep changing".to_owned());
        Err(Error::NoMajority {
            digest,
            kept,
            voters,
            why,
        })
    }

    async fn spread_to(&self, digest: Digest, members: &Members) -> Result<(), Error> {
        let voters = members.voters.len();
        let mut kept = members.voters.iter().filter(|(id, _)| *id == members.me).count();
        let (done, mut answers) = mpsc::channel(voters.max(1));
        for (id, address) in members.voters.iter().copied().filter(|(id, _)| *id != members.me) {
            let (blobs, done, stopping) = (self.clone(), done.clone(), self.0.lifecycle.stopping());
            self.0.lifecycle.spawn(Kind::Work, "blob put", async move {
                let put = stopping
                    .run_until_cancelled(blobs.put_to(id, address, digest))
                    .await;
                // The majority may be reached already and nobody listen any more.
                let _ = done.send(put.unwrap_or(Err("the agent stops".to_owned()))).await;
                Ok(())
            });
        }
        drop(done);
        let mut refusals = Vec::new();
        while kept <= voters / 2 {
            match answers.recv().await {
                Some(Ok(())) => kept += 1,
                Some(Err(why)) => refusals.push(why),
                None => {
                    let why = if refusals.is_empty() {
                        "no other voter".to_owned()
                    } else {
                        refusals.join("; ")
                    };
                    return Err(Error::NoMajority {
                        digest,
                        kept,
                        voters,
                        why,
                    });
                }
            }
        }
        Ok(())
    }

    async fn put_to(&self, id: u64, address: Option<SocketAddr>, digest: Digest) -> Result<(), String> {
        let address = address.ok_or(NO_ADDRESS)?;
        let mut backoff = Backoff::default();
        let mut why = String::new();
        for _ in 0..PUT_TRIES {
            match self.try_put(address, digest).await {
                Ok(()) => return Ok(()),
                Err(error) => why = format!("node {id}: {error}"),
            }
            backoff.rest().await;
        }
        debug!(node = id, %digest, why, "a voter did not keep a blob");
        Err(why)
    }

    async fn try_put(&self, address: SocketAddr, digest: Digest) -> anyhow::Result<()> {
        let path = self
            .0
            .holder
            .store()
            .sound(&digest)
            .await?
            .ok_or_else(|| anyhow::anyhow!("{digest} is not here any more"))?;
        let mut file = tokio::fs::File::open(path).await?;
        let size = file.metadata().await?.len();
        Ok(self
            .0
            .client
            .put(address, digest.bytes(), size, &mut file)
            .await?)
    }

    /// Has a majority of the voters have what lies here; false where it does not. This node answers for itself first, as
    /// whoever is about to name the blob has to ask it.
    pub(super) async fn spread_again(&self, digest: Digest) -> Result<bool, Error> {
        let is_here = self.0.holder.confirm(&digest).await?;
        if is_here {
            self.spread(digest).await?;
        }
        Ok(is_here)
    }

    /// Refuses where the disk here has little room left.
    pub fn has_room(&self) -> Result<(), Error> {
        self.0.holder.store().room_for(0)
    }

    /// By which rule this node holds blobs.
    pub fn rule(&self) -> &pipes_job::blobs::Holder {
        self.0.holder.rule()
    }

    pub(super) fn holder(&self) -> &Holder {
        &self.0.holder
    }

    pub(super) fn client(&self) -> &bulk::Client {
        &self.0.client
    }

    pub(super) fn members(&self) -> Members {
        self.0.group.members()
    }

    /// Whether this node is one of those that keep every blob.
    pub(super) fn is_voter(&self) -> bool {
        let members = self.members();
        members.voters.iter().any(|(id, _)| *id == members.me)
    }
}

impl Upload {
    /// Adds bytes at the end.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.writer.write(bytes).await
    }

    /// Ends the blob; returns its digest once a majority of the voters has fsynced it. With `expected` it is refused
    /// if it is another.
    pub async fn finish(self, expected: Option<Digest>) -> Result<Digest, Error> {
        let holder = &self.blobs.0.holder;
        let digest = holder.keep(self.writer, expected).await?;
        self.blobs.spread(digest).await?;
        // To send a large one took long.
        holder.rule().awaits(&digest.to_string());
        Ok(digest)
    }
}
