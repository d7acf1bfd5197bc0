//! What an agent does about blobs by itself: it follows the names, fetches what it is to have, and has collected what
//! nothing names.
//!
//! ```text
//! walk: names and files side by side      named, not here: fetch       here, not named: look
//! watch: a name came                      not here: fetch              a name went: look
//!        gone came                        look in 2 s, if it still is there: its collector may have died
//!        gone went, or it was fetched     here still: look in 10 s
//! put and never named for 5 minutes       look
//! ```
//!
//! A look is the business of the node that rendezvous hashing of the digest names; 10 s later it is that of whoever has the
//! blob still. That nothing names it is compared by the transaction itself, whoever looks.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pipes_raft::{Consistency, Event, EventKind, Range, Store, Watch, prefix_end};
use tokio::sync::Notify;
use tracing::{debug, info};

use crate::blobs::Holder;
use crate::blobs::agenda::{Agenda, Look};
use crate::blobs::collect::{self, Looked};
use crate::error::Error;
use crate::key::{self, OfBlob};
use crate::rendezvous::chosen;
use crate::seams::{Clock, Disk, Holders};

/// After so long a look that was another's is anybody's who has the blob.
const ANYBODYS_AFTER: Duration = Duration::from_secs(10);
/// After so long whoever reads of it goes on with a collection: meanwhile nobody can name the blob.
const FINISHED_AFTER: Duration = Duration::from_secs(2);
/// Between two looks at a blob that somebody awaits, and after one that the store did not decide.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Between two looks at what was awaited for too long, and at what this node is to keep.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between two walks where no watch was lost.
const WALK_EVERY: Duration = Duration::from_secs(600);
/// The rest before the names are followed anew after an error.
const REST: Duration = Duration::from_millis(500);
/// Names that are listed at once.
const PAGE: usize = 1_000;
/// Blobs that are collected at once: one whose holder does not answer holds up no other.
const COLLECTING_MAX: usize = 8;
/// What the digests of a part of a walk begin with.
const PARTS: &str = "0123456789abcdef";

/// What a keeper works with.
pub struct Parts {
    /// The store.
    pub store: Store,
    /// This node.
    pub node: u64,
    /// All who keep blobs.
    pub holders: Box<dyn Holders>,
    /// The rule of this one.
    pub holder: Holder,
    /// What lies here.
    pub disk: Box<dyn Disk>,
    /// What time it is.
    pub clock: Box<dyn Clock>,
}

/// The keeper of an agent.
pub struct Keeper {
    parts: Parts,
    agenda: Mutex<Agenda>,
    /// There is something to look at.
    noted_unnamed: Notify,
    /// There is something to fetch.
    noted_missing: Notify,
}

impl Keeper {
    /// Does nothing before it is run.
    pub fn new(parts: Parts) -> Keeper {
        Keeper {
            parts,
            agenda: Mutex::default(),
            noted_unnamed: Notify::new(),
            noted_missing: Notify::new(),
        }
    }

    /// Keeps blobs for ever.
    pub async fn run(&self) {
        tokio::join!(self.follow(), self.collect(), self.fetch());
    }

    /// It does not lie here any more: where it is named it is fetched.
    pub fn is_lost(&self, digest: &str) {
        self.agenda().missing(digest, self.now());
        self.noted_missing.notify_one();
    }

    async fn follow(&self) {
        loop {
            let keeps_all = self.parts.disk.keeps_all();
            let followed = match self.walk(keeps_all).await {
                Ok(watch) => self.watch(watch, keeps_all).await,
                Err(error) => Err(error),
            };
            if let Err(error) = followed {
                debug!(%error, "names of blobs are followed anew");
                self.parts.clock.sleep(REST).await;
            }
        }
    }

    /// Reads all names and all that lies here; gives what tells their changes since.
    async fn walk(&self, keeps_all: bool) -> Result<Watch, Error> {
        let mut revision = 0;
        for part in PARTS.chars() {
            self.walk_part(&format!("sha256:{part}"), keeps_all, &mut revision)
                .await?;
        }
        let all = key::blobs("sha256:");
        let end = Some(prefix_end(&all));
        Ok(self.parts.store.watch(all, end, revision + 1))
    }

    /// The same for the digests that begin so, at the revision of the walk's first reading.
    async fn walk_part(&self, digests: &str, keeps_all: bool, revision: &mut i64) -> Result<(), Error> {
        let (mut named, mut gone) = (BTreeSet::new(), BTreeSet::new());
        let mut page = Range {
            limit: PAGE,
            keys_only: true,
            ..Range::prefix(key::blobs(digests))
        };
        loop {
            page.revision = *revision;
            // The first one is read of a majority: what lies here may be old.
            let consistency = match *revision {
                0 => Consistency::Linearizable,
                _ => Consistency::Serializable,
            };
            let read = self.parts.store.range(page.clone(), consistency).await?;
            if *revision == 0 {
                *revision = read.revision;
            }
            for kv in &read.kvs {
                match key::read_blob(&kv.key) {
                    Some((digest, OfBlob::Name)) if !named.contains(digest) => {
                        named.insert(digest.to_owned());
                    }
                    Some((digest, OfBlob::Gone)) => drop(gone.insert(digest.to_owned())),
                    _ => {}
                }
            }
            match read.kvs.last() {
                Some(last) if read.more => page.key = [last.key.as_slice(), &[0]].concat(),
                _ => break,
            }
        }
        let here: BTreeSet<String> = self.parts.disk.list(digests).await.into_iter().collect();
        for digest in here.difference(&named) {
            // What is awaited is looked at when it has been for too long.
            if !self.parts.holder.is_awaited(digest) {
                self.look(digest, Duration::ZERO, false);
            }
        }
        for digest in &gone {
            self.look(digest, FINISHED_AFTER, true);
        }
        for digest in named.difference(&here).filter(|_| keeps_all) {
            self.is_lost(digest);
        }
        Ok(())
    }

    /// Takes changes in until it is time for another walk.
    async fn watch(&self, mut watch: Watch, keeps_all: bool) -> Result<(), Error> {
        let walk_at = self.now() + WALK_EVERY;
        let mut look_at = self.now() + LOOK_EVERY;
        loop {
            tokio::select! {
                biased;
                event = watch.next() => self.changed(&event?),
                () = self.until(Some(look_at)) => {}
            }
            if self.now() < look_at {
                continue;
            }
            look_at = self.now() + LOOK_EVERY;
            let overdue = self.parts.holder.overdue();
            overdue
                .iter()
                .for_each(|digest| self.look(digest, Duration::ZERO, false));
            let is_due = self.now() >= walk_at || self.agenda().take_overflow();
            // A learner that votes now lacks what it never fetched.
            if is_due || self.parts.disk.keeps_all() != keeps_all {
                return Ok(());
            }
        }
    }

    fn changed(&self, event: &Event) {
        let Some((digest, says)) = key::read_blob(&event.kv.key) else {
            return;
        };
        let (disk, holder) = (&self.parts.disk, &self.parts.holder);
        match (says, event.kind) {
            (OfBlob::Name, EventKind::Put) => {
                holder.named(digest);
                if disk.keeps_all() && !disk.is_here(digest) {
                    self.is_lost(digest);
                }
            }
            (OfBlob::Name, EventKind::Delete) => {
                // It may have come here behind its name.
                holder.named(digest);
                self.look(digest, Duration::ZERO, false);
            }
            (OfBlob::Gone, EventKind::Put) => self.look(digest, FINISHED_AFTER, true),
            (OfBlob::Gone, EventKind::Delete) if disk.is_here(digest) => {
                self.look(digest, ANYBODYS_AFTER, true);
            }
            (OfBlob::Gone, EventKind::Delete) => {}
        }
    }

    fn look(&self, digest: &str, after: Duration, is_anybodys: bool) {
        let due = self.now() + after;
        self.agenda().unnamed(digest, Look { due, is_anybodys });
        self.noted_unnamed.notify_one();
    }

    /// Looks at what is due, a few at once.
    async fn collect(&self) {
        let mut going = FuturesUnordered::new();
        loop {
            while going.len() < COLLECTING_MAX
                && let Some((digest, look)) = self.next_unnamed()
            {
                going.push(self.look_at(digest, look));
            }
            let has_room = going.len() < COLLECTING_MAX;
            let due = self.agenda().unnamed_due().filter(|_| has_room);
            tokio::select! {
                biased;
                Some(()) = going.next(), if !going.is_empty() => {}
                () = self.noted_unnamed.notified(), if has_room => {}
                () = self.until(due) => {}
            }
        }
    }

    fn next_unnamed(&self) -> Option<(String, Look)> {
        self.agenda().next_unnamed(self.now())
    }

    async fn look_at(&self, digest: String, look: Look) {
        match self.looked_at(&digest, look).await {
            Ok(Looked::IsAwaited) => self.look(&digest, LOOK_AGAIN, look.is_anybodys),
            Ok(Looked::IsCollected) => info!(digest, "a blob that nothing named was collected"),
            Ok(Looked::NothingToDo) => {}
            Err(error) => {
                debug!(digest, %error, "a blob cannot be collected yet");
                self.look(&digest, LOOK_AGAIN, look.is_anybodys);
            }
        }
    }

    async fn looked_at(&self, digest: &str, look: Look) -> Result<Looked, Error> {
        let (is_named, is_gone) = collect::known(&self.parts.store, digest).await?;
        if is_named && !is_gone {
            return Ok(Looked::NothingToDo);
        }
        if look.is_anybodys {
            if !is_gone && !self.parts.disk.is_here(digest) {
                // It was collected, as far as this node can see.
                return Ok(Looked::NothingToDo);
            }
        } else if chosen(digest, &self.present().await?) != Some(self.parts.node) {
            self.look(digest, ANYBODYS_AFTER, true);
            return Ok(Looked::NothingToDo);
        }
        collect::collect(&self.parts.store, &*self.parts.holders, digest).await
    }

    async fn present(&self) -> Result<Vec<u64>, Error> {
        let range = Range {
            keys_only: true,
            ..Range::prefix(key::presences())
        };
        let present = self.parts.store.range(range, Consistency::Serializable).await?;
        Ok(present
            .kvs
            .iter()
            .filter_map(|kv| key::read_presence(&kv.key))
            .collect())
    }

    /// Fetches what is named and does not lie here, one after another.
    async fn fetch(&self) {
        loop {
            let next = self.agenda().next_missing(self.now());
            let Some((digest, rest)) = next else {
                let due = self.agenda().missing_due();
                tokio::select! {
                    biased;
                    () = self.noted_missing.notified() => {}
                    () = self.until(due) => {}
                }
                continue;
            };
            match self.is_wanted(&digest).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => debug!(digest, %error, "whether a blob is named cannot be read"),
            }
            if self.parts.holders.fetch(&digest).await {
                // It may have been collected while it came.
                self.look(&digest, ANYBODYS_AFTER, true);
            } else {
                let now = self.now();
                self.agenda().missing_still(&digest, now, rest);
            }
        }
    }

    async fn is_wanted(&self, digest: &str) -> Result<bool, Error> {
        let disk = &self.parts.disk;
        if !disk.keeps_all() || disk.is_here(digest) {
            return Ok(false);
        }
        let (is_named, _) = collect::known(&self.parts.store, digest).await?;
        Ok(is_named)
    }

    /// Waits for that time; without one only something that is noted counts.
    async fn until(&self, due: Option<Duration>) {
        match due {
            Some(due) => self.parts.clock.sleep(due.saturating_sub(self.now())).await,
            None => std::future::pending().await,
        }
    }

    fn now(&self) -> Duration {
        self.parts.clock.monotonic()
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        // Plain data: a panic elsewhere leaves it whole.
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
