//! How a session's task learns of handles that were dropped before their end.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A handle that was dropped before its end, by its number.
#[derive(Clone, Copy)]
pub(super) enum Left {
    Call(u64),
    Invocation(u64),
    Registration(u64),
}

/// Tells the task of dropped handles. A queue would not do: dropping cannot wait for room. The list is as long as
/// there were handles at most.
#[derive(Clone, Default)]
pub(super) struct Leaver {
    list: Arc<Mutex<Vec<Left>>>,
    notify: Arc<Notify>,
}

impl Leaver {
    /// To be kept by a handle, as its first field: the task is told before it sees the handle's queues end.
    pub(super) fn guard(&self, left: Left) -> Guard {
        Guard {
            leaver: self.clone(),
            left,
            is_done: false,
        }
    }

    /// Waits until handles were dropped.
    pub(super) async fn left(&self) {
        self.notify.notified().await;
    }

    /// Those that were dropped since this was asked last.
    pub(super) fn take(&self) -> Vec<Left> {
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tells the task when it is dropped, unless its handle has come to its end.
pub(super) struct Guard {
    leaver: Leaver,
    left: Left,
    is_done: bool,
}

impl Guard {
    /// The handle has come to its end.
    pub(super) fn done(&mut self) {
        self.is_done = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_done {
            let mut list = self.leaver.list.lock().unwrap_or_else(PoisonError::into_inner);
            list.push(self.left);
            self.leaver.notify.notify_one();
        }
    }
}
