//! How a session's task learns of handles that were dropped before their end.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A handle that was dropped before its end, by its number.
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
    /// Notes that a handle was dropped.
    pub(super) fn leave(&self, left: Left) {
        self.list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(left);
        self.notify.notify_one();
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
