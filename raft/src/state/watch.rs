//! A watch on this node's own state.
//!
//! At first, and whenever it has fallen behind, it reads the history; once it has caught up it subscribes and is
//! notified of each revision as it is applied.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::State;
use crate::mvcc::{Notification, Scope};
use crate::{Error, Event};

/// Transactions that may wait for a watcher. One that falls further behind reads the rest from disk.
const WATCH_QUEUE: usize = 256;

/// A subscription: its queue ends when its watcher fell behind or the state was replaced.
struct Subscription {
    id: u64,
    queue: mpsc::Receiver<Notification>,
}

impl State {
    /// Subscribes to the changes of a scope after revision `after`, if that is where the store is or has yet to come.
    fn subscribe(&self, scope: &Scope, after: i64) -> Result<Option<Subscription>, Error> {
        let mut inner = self.write();
        if self.progress.borrow().is_stopped {
            return Err(Error::Stopped);
        }
        if inner.database.revision > after {
            return Ok(None);
        }
        let (notifications, queue) = mpsc::channel(crate::limit!("watch_queue", WATCH_QUEUE));
        let id = inner.watchers.add(scope.clone(), notifications);
        Ok(Some(Subscription { id, queue }))
    }

    /// Ends a subscription.
    fn unsubscribe(&self, id: u64) {
        self.write().watchers.remove(id);
    }
}

/// A watch on this node's own state.
pub(crate) struct LocalWatch {
    state: Arc<State>,
    scope: Scope,
    next: i64,
    subscription: Option<Subscription>,
}

impl LocalWatch {
    pub(crate) fn new(state: Arc<State>, scope: Scope, from: i64) -> LocalWatch {
        LocalWatch {
            state,
            scope,
            next: from,
            subscription: None,
        }
    }

    /// All revisions below this one have been told.
    pub(crate) fn next_revision(&self) -> i64 {
        self.next
    }

    /// The events that come next, at least one; cancel safe.
    pub(crate) async fn batch(&mut self) -> Result<Vec<Event>, Error> {
        loop {
            if let Some(subscription) = &mut self.subscription {
                match subscription.queue.recv().await {
                    // Told before this watch's beginning, which lay in the future.
                    Some(notification) if notification.revision < self.next => continue,
                    Some(notification) => {
                        self.next = notification.revision + 1;
                        return Ok(notification
                            .events
                            .iter()
                            .map(|event| Event::clone(event))
                            .collect());
                    }
                    None => self.unsubscribe(),
                }
            }
            if let Some(subscription) = self.state.subscribe(&self.scope, self.next - 1)? {
                self.subscription = Some(subscription);
                continue;
            }
            let (state, scope, from) = (self.state.clone(), self.scope.clone(), self.next);
            let read = crate::task::blocking(move || state.history(&scope, from)).await;
            let history = read?;
            self.next = history.next;
            if !history.events.is_empty() {
                return Ok(history.events);
            }
        }
    }

    fn unsubscribe(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            self.state.unsubscribe(subscription.id);
        }
    }
}

impl Drop for LocalWatch {
    fn drop(&mut self) {
        self.unsubscribe();
    }
}
