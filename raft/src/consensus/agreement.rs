//! Whether this replica's state is the others', as far as is known here.
//!
//! A leader's appends and heartbeats carry the digest of the newest entry it has applied. Who has applied that one too
//! compares; where the two differ, the entry is *suspected*, and `replica/examine.rs` asks all voters. Where no majority of
//! them agrees, the replica is *in doubt*, and answers nothing that its state is asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::Error;
use crate::mvcc::Digest;
use crate::state::State;

/// What is known of the agreement with the others.
#[derive(Debug, Default)]
pub(crate) struct Agreement {
    heard: Mutex<Heard>,
    suspecting: Notify,
    is_in_doubt: AtomicBool,
    is_odd: AtomicBool,
}

#[derive(Debug, Default)]
struct Heard {
    /// A leader's digest of an entry that is not applied here yet. It is kept until it is: under load the leader's newest
    /// never is.
    waiting: Option<(u64, Digest)>,
    /// The entry after which this state and another differ.
    suspected: Option<u64>,
}

impl Agreement {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares a leader's newest digest with this state's, now or once it has come so far.
    pub(crate) fn hear(&self, state: &State, newest: Option<(u64, Digest)>) {
        let mut heard = self.heard();
        for (index, theirs) in [heard.waiting.take(), newest].into_iter().flatten() {
            match state.digest_at(index) {
                Some(own) if own.differs(&theirs) && heard.suspected.is_none() => {
                    heard.suspected = Some(index);
                    self.suspecting.notify_one();
                }
                Some(_) => {}
                // Who had an entry and forgot its digest has no opinion.
                None if state.newest_digest().is_some_and(|(newest, _)| newest < index) => {
                    // The nearer one: that of a leader that is none any more may never come.
                    let waiting = heard.waiting.filter(|(waiting, _)| *waiting <= index);
                    heard.waiting = waiting.or(Some((index, theirs)));
                }
                None => {}
            }
        }
    }

    /// Somebody has found that states differ after the entry `index`.
    pub(crate) fn suspect(&self, index: u64) {
        self.heard().suspected.get_or_insert(index);
        self.suspecting.notify_one();
    }

    /// Waits for an entry that is suspected.
    pub(crate) async fn suspected(&self) -> u64 {
        loop {
            if let Some(index) = self.heard().suspected {
                return index;
            }
            self.suspecting.notified().await;
        }
    }

    /// Whether it is known to differ from nobody: who does not know hands its state to nobody.
    pub(crate) fn is_sound(&self) -> bool {
        self.heard().suspected.is_none()
    }

    /// No majority agrees.
    pub(crate) fn doubt(&self) {
        self.is_in_doubt.store(true, Ordering::Release);
    }

    /// A majority agrees, and this replica is not of it: it is out for good.
    pub(crate) fn condemn(&self) {
        self.is_odd.store(true, Ordering::Release);
    }

    /// Whether it is out since its state is wrong.
    pub(crate) fn is_odd(&self) -> bool {
        self.is_odd.load(Ordering::Acquire)
    }

    /// A majority agrees, and this replica is of it.
    pub(crate) fn settle(&self) {
        self.heard().suspected = None;
        self.is_in_doubt.store(false, Ordering::Release);
    }

    /// Whether no majority agrees.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt.load(Ordering::Acquire)
    }

    /// An error for whoever asks for the state where no majority agrees on it.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.is_in_doubt() {
            true => Err(Error::ReplicasDiffer),
            false => Ok(()),
        }
    }
}
