//! The history with its checks, shared by the world and all clients: whoever looks finds what the stores have done until
//! now in it, and checked.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::check::Checks;
use crate::history::History;

/// A history and what must hold of it.
#[derive(Debug, Default)]
pub struct Book {
    history: History,
    /// What must always hold.
    pub checks: Checks,
}

impl Deref for Book {
    type Target = History;

    fn deref(&self) -> &History {
        &self.history
    }
}

impl DerefMut for Book {
    fn deref_mut(&mut self) -> &mut History {
        &mut self.history
    }
}

impl Book {
    /// Takes and checks what the stores have done since the last time.
    fn catch_up(&mut self) {
        for event in pipes_raft::sim::take_events() {
            self.checks.take(&event, &mut self.history);
        }
    }

    /// Does something with the checks.
    pub fn check<T>(&mut self, work: impl FnOnce(&mut Checks, &mut History) -> T) -> T {
        work(&mut self.checks, &mut self.history)
    }
}

/// The book, for the world and all clients.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Book>>);

impl Shared {
    /// The history, with all that the stores have done until now.
    pub fn lock(&self) -> MutexGuard<'_, Book> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.catch_up();
        book
    }
}
