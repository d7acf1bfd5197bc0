//! The pool of replicas: a handle to the one task (`event_loop.rs`) that owns the slots, keeps the time and has replicas
//! started and stopped.
//!
//! ```text
//! prepare(request)       -> Preparing: Waiting? Reserved, Ready(places)   or Failed(Full | ...)
//! drop(preparing)        they are free
//! wish({cat: 2})         two of them are kept, whoever uses them
//! ```
//!
//! Always: (1) the state is the task's alone; (2) whoever drops a [`Preparing`] has nothing any more, before anything that
//! is asked of the pool after that; (3) when the agent stops, every replica is told to, and the tasks that wait for their
//! ends are awaited with the others.
//! Not here: who gets which slot (`state.rs`, `choose.rs`), what a replica is (`Backend`).

pub mod answer;
mod backoff;
mod choose;
mod event_loop;
mod reserve;
pub mod state;
mod supply;
mod wished;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipes_protocol::reservation::Prepare;
use pipes_protocol::supply::{Kind, Supply};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::executor::backend::Backend;
use crate::executor::pool::answer::Answer;
use crate::executor::pool::event_loop::Owner;
use crate::executor::pool::state::Counters;
use crate::executor::settings::Settings;
use crate::lifecycle::{self, Lifecycle};

/// Commands that may wait for the task; whoever sends more waits with them.
const COMMANDS_MAX: usize = 1_000;
/// One prepare's answers: waiting, reserved, ready, and that it was not started.
const ANSWERS_MAX: usize = 4;

/// What the pool works with.
pub struct Parts {
    /// Starts and stops replicas.
    pub backend: Arc<dyn Backend>,
    /// Settings as they change.
    pub settings: watch::Receiver<Settings>,
    /// Runs the tasks.
    pub lifecycle: Lifecycle,
}

/// The pool. A cheap handle.
#[derive(Clone)]
pub struct Pool {
    commands: mpsc::Sender<Command>,
    tickets: Arc<AtomicU64>,
    ended: Ended,
    supply: watch::Receiver<Supply>,
}

enum Command {
    Prepare {
        request: Prepare,
        ticket: u64,
        answers: mpsc::Sender<Answer>,
    },
    Wish(BTreeMap<Kind, u32>),
    Count(oneshot::Sender<(usize, Counters)>),
}

/// Tickets of prepares that were dropped. A queue would not do: dropping cannot wait for room. The list is as long as
/// there were prepares at most.
#[derive(Clone, Default)]
struct Ended {
    tickets: Arc<Mutex<Vec<u64>>>,
    notify: Arc<Notify>,
}

impl Ended {
    fn push(&self, ticket: u64) {
        self.lock().push(ticket);
        self.notify.notify_one();
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        // Plain data: a panic elsewhere leaves it whole.
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A prepare, from its asking to its end: dropped, it has nothing.
pub struct Preparing {
    ticket: u64,
    answers: mpsc::Receiver<Answer>,
    ended: Ended,
}

impl Pool {
    /// Starts the task; it ends with the agent.
    pub fn start(parts: Parts) -> Pool {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let lifecycle = parts.lifecycle.clone();
        let ended = Ended::default();
        let (owner, supply) = Owner::new(parts, ended.clone());
        lifecycle.spawn(lifecycle::Kind::Part, "pool of replicas", owner.run(receiver));
        Pool {
            commands,
            tickets: Arc::default(),
            ended,
            supply,
        }
    }

    /// Asks for slots.
    pub async fn prepare(&self, request: Prepare) -> Preparing {
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        // There before it is asked for, so that it has nothing whenever this is dropped.
        let preparing = Preparing {
            ticket: self.tickets.fetch_add(1, Ordering::Relaxed),
            answers,
            ended: self.ended.clone(),
        };
        let command = Command::Prepare {
            request,
            ticket: preparing.ticket,
            answers: sender,
        };
        // A pool that is gone answers nothing; `next` tells.
        let _ = self.commands.send(command).await;
        preparing
    }

    /// Has so many replicas of each kind kept, whoever uses them; what was wished before holds no more.
    pub async fn wish(&self, wish: BTreeMap<Kind, u32>) {
        // A pool that is gone keeps nothing: the agent stops.
        let _ = self.commands.send(Command::Wish(wish)).await;
    }

    /// Slots in use, and how often limits were met; `None` when the pool is gone.
    pub async fn count(&self) -> Option<(usize, Counters)> {
        let (sender, counted) = oneshot::channel();
        self.commands.send(Command::Count(sender)).await.ok()?;
        counted.await.ok()
    }

    /// What is there and how much of it is free, as it changes.
    pub fn supply(&self) -> watch::Receiver<Supply> {
        self.supply.clone()
    }
}

impl Preparing {
    /// The next answer; after `Failed`, and when the agent stops, `None`. Cancel safe.
    pub async fn next(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        // In this order: whether the pool takes up the prepare before or after, it learns that nobody is there.
        self.answers.close();
        self.ended.push(self.ticket);
    }
}

#[cfg(test)]
mod tests;
