//! The pool of replicas: a handle to the one task (`event_loop.rs`) that owns the slots, keeps the time and has replicas
//! started and stopped.
//!
//! ```text
//! prepare(request)          -> Preparing: Waiting? Reserved, Ready(places)   or Failed(Full | ...)
//! commit(run)               the run starts: its slots are its own
//! abort(run, attempt)       they are free: the run is over, or is placed anew
//! ```
//!
//! Always: (1) the state is the task's alone; (2) whoever drops a [`Preparing`] before its end has nothing; (3) when the
//! agent stops, every replica is told to, and the tasks that wait for their ends are awaited with the others.
//! Not here: who gets which slot (`state.rs`, `choose.rs`), what a replica is (`Backend`).

pub mod answer;
mod choose;
mod event_loop;
mod reserve;
pub mod state;

use std::collections::BTreeSet;
use std::sync::Arc;

use pipes_protocol::reservation::Prepare;
use tokio::sync::{mpsc, oneshot, watch};

use crate::executor::backend::Backend;
use crate::executor::pool::answer::Answer;
use crate::executor::pool::event_loop::Owner;
use crate::executor::pool::state::Counters;
use crate::executor::settings::Settings;
use crate::lifecycle::{Kind, Lifecycle};

/// Commands that may wait for the task; whoever sends more waits with them.
const COMMANDS_MAX: usize = 1_000;
/// One prepare's answers: waiting, reserved, ready.
const ANSWERS_MAX: usize = 3;

/// What the pool works with.
pub struct Parts {
    /// This node.
    pub node: u64,
    /// Starts and stops replicas.
    pub backend: Arc<dyn Backend>,
    /// Settings as they change.
    pub settings: watch::Receiver<Settings>,
    /// Nodes that are linked with this one.
    pub links: watch::Receiver<BTreeSet<u64>>,
    /// Coordinators' nodes and runs that may ask again. What finds no room is dropped: they ask by themselves in a second.
    pub freed: mpsc::Sender<(u64, String)>,
    /// Runs the tasks.
    pub lifecycle: Lifecycle,
}

/// The pool. A cheap handle.
#[derive(Clone)]
pub struct Pool {
    commands: mpsc::Sender<Command>,
}

enum Command {
    Prepare {
        request: Prepare,
        answers: mpsc::Sender<Answer>,
        ticket: oneshot::Sender<u64>,
    },
    Cancel(u64),
    Commit(String),
    Abort {
        run: String,
        attempt: u64,
        done: oneshot::Sender<()>,
    },
    Count(oneshot::Sender<(usize, Counters)>),
}

/// A prepare under way.
pub struct Preparing {
    ticket: Option<u64>,
    answers: mpsc::Receiver<Answer>,
    commands: mpsc::Sender<Command>,
}

impl Pool {
    /// Starts the task; it ends with the agent.
    pub fn start(parts: Parts) -> Pool {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let lifecycle = parts.lifecycle.clone();
        let owner = Owner::new(parts);
        lifecycle.spawn(Kind::Part, "pool of replicas", owner.run(receiver));
        Pool { commands }
    }

    /// Asks for slots.
    pub async fn prepare(&self, request: Prepare) -> Preparing {
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        let (ticket, known) = oneshot::channel();
        // A pool that is gone gives no ticket and no answer; `next` tells.
        let _ = self
            .commands
            .send(Command::Prepare {
                request,
                answers: sender,
                ticket,
            })
            .await;
        Preparing {
            ticket: known.await.ok(),
            answers,
            commands: self.commands.clone(),
        }
    }

    /// A run starts: what it reserved is its own until it is over.
    pub async fn commit(&self, run: &str) {
        // A pool that is gone has nothing to commit.
        let _ = self.commands.send(Command::Commit(run.to_owned())).await;
    }

    /// A run is over, or is placed anew; returns when the slots of its attempts up to this one are free.
    pub async fn abort(&self, run: &str, attempt: u64) {
        let (done, is_done) = oneshot::channel();
        // A pool that is gone holds nothing.
        let _ = self
            .commands
            .send(Command::Abort {
                run: run.to_owned(),
                attempt,
                done,
            })
            .await;
        let _ = is_done.await;
    }

    /// Slots in use, and how often limits were met; `None` when the pool is gone.
    pub async fn count(&self) -> Option<(usize, Counters)> {
        let (sender, counted) = oneshot::channel();
        self.commands.send(Command::Count(sender)).await.ok()?;
        counted.await.ok()
    }
}

impl Preparing {
    /// The next answer; after `Ready` or `Failed`, and when the agent stops, `None`.
    pub async fn next(&mut self) -> Option<Answer> {
        let answer = self.answers.recv().await;
        if !matches!(answer, Some(Answer::Waiting | Answer::Reserved)) {
            self.ticket = None;
        }
        answer
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            // With a full queue the task finds nobody there at its next answer.
            let _ = self.commands.try_send(Command::Cancel(ticket));
        }
    }
}

#[cfg(test)]
mod tests;
