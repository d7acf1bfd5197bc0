//! What a holder may do with a blob, and when: one thing at a time for a digest, and a deletion only where the store says,
//! while that one thing is going on, that the blob is being collected.
//!
//! ```text
//! namer      reads generation 7 ... asks: "is it there?" ----------- yes ... writes the name, if the generation is 7 still
//! collector          writes gone, generation 8 ... "delete it" --+
//! holder                          alone: yes | alone: reads gone -+- deletes | alone: no
//! ```
//!
//! An answer that comes before a deletion comes before the reading of `gone`, so that the namer's generation was read
//! before `gone` was removed: either it is still there, or the generation is another one. An answer that comes after it
//! is no. An order to delete that comes late, from whoever sent it before it died, finds no `gone`.
//!
//! Beside it the holder remembers what it expects to be named soon. Nothing hangs on that but that fewer bytes are sent
//! twice: what is collected while it is being named is refused in order, and sent again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pipes_raft::Store;

use crate::error::Error;
use crate::key;
use crate::seams::Clock;

/// How long what was put, or asked for, is expected to be named: the client may send the other files of its run first.
const AWAITED_FOR: Duration = Duration::from_secs(300);
/// How long it is when it has been named since: another that sent the same bytes is about to name them as well.
const AWAITED_AFTER_NAME: Duration = Duration::from_secs(5);
/// What is expected at once; what else comes may be collected before it is named, and is found by the walk.
const AWAITED_MAX: usize = 10_000;
/// Things that are done at once, one for each group of digests.
const STRIPES: usize = 256;

/// Knows whether a blob is being collected.
#[async_trait]
pub trait Gone: Send + Sync + 'static {
    /// Asks a majority, at this moment.
    async fn is_gone(&self, digest: &str) -> Result<bool, Error>;
}

#[async_trait]
impl Gone for Store {
    async fn is_gone(&self, digest: &str) -> Result<bool, Error> {
        Ok(self.get(key::blob_gone(digest)).await?.is_some())
    }
}

/// The rule of one holder. A cheap handle.
#[derive(Clone)]
pub struct Holder(Arc<Inner>);

struct Inner {
    gone: Box<dyn Gone>,
    clock: Box<dyn Clock>,
    stripes: Vec<tokio::sync::Mutex<()>>,
    /// Until when each is expected to be named.
    awaited: Mutex<BTreeMap<String, Duration>>,
}

/// As long as this lives nothing else is done with a digest here.
pub struct Alone<'a> {
    holder: &'a Holder,
    digest: String,
    _stripe: tokio::sync::MutexGuard<'a, ()>,
}

impl Holder {
    /// A holder that has done nothing yet.
    pub fn new(gone: Box<dyn Gone>, clock: Box<dyn Clock>) -> Holder {
        Holder(Arc::new(Inner {
            gone,
            clock,
            stripes: (0..STRIPES).map(|_| tokio::sync::Mutex::new(())).collect(),
            awaited: Mutex::default(),
        }))
    }

    /// Waits until it is alone with a digest.
    pub async fn alone(&self, digest: &str) -> Alone<'_> {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        let group = hex.get(..2).and_then(|hex| usize::from_str_radix(hex, 16).ok());
        Alone {
            holder: self,
            digest: digest.to_owned(),
            _stripe: self.0.stripes[group.unwrap_or(0) % STRIPES].lock().await,
        }
    }

    /// It came here, or somebody who is going to name it asked for it.
    pub fn awaits(&self, digest: &str) {
        let until = self.0.clock.monotonic() + AWAITED_FOR;
        let mut awaited = self.awaited();
        if awaited.len() < AWAITED_MAX || awaited.contains_key(digest) {
            awaited.insert(digest.to_owned(), until);
        }
    }

    /// It was named; it may be no more.
    pub fn named(&self, digest: &str) {
        let latest = self.0.clock.monotonic() + AWAITED_AFTER_NAME;
        if let Some(until) = self.awaited().get_mut(digest) {
            *until = latest.min(*until);
        }
    }

    /// Whether it is expected to be named.
    pub fn is_awaited(&self, digest: &str) -> bool {
        let now = self.0.clock.monotonic();
        self.awaited().get(digest).is_some_and(|until| *until > now)
    }

    /// Forgets what was expected long enough, and gives it.
    pub fn overdue(&self) -> Vec<String> {
        let now = self.0.clock.monotonic();
        let mut awaited = self.awaited();
        let overdue = awaited.iter().filter(|(_, until)| **until <= now);
        let overdue: Vec<String> = overdue.map(|(digest, _)| digest.clone()).collect();
        for digest in &overdue {
            awaited.remove(digest);
        }
        overdue
    }

    fn awaited(&self) -> MutexGuard<'_, BTreeMap<String, Duration>> {
        // Plain data: a panic elsewhere leaves it whole.
        self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Alone<'_> {
    /// Whether it may be deleted before this ends.
    pub async fn may_delete(&self) -> bool {
        // Where nobody answers, nobody collects.
        let is_gone = self.holder.0.gone.is_gone(&self.digest).await;
        is_gone.unwrap_or(false)
    }
}
