//! The pool of replicas: one task that owns the slots, keeps the time and has replicas started and stopped.
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
mod reserve;
pub mod state;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use pipes_protocol::reservation::{Prepare, PrepareError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::executor::backend::{Backend, ReplicaSpec};
use crate::executor::pool::answer::Answer;
use crate::executor::pool::state::{Counters, Effect, Slots};
use crate::executor::settings::Settings;
use crate::lifecycle::{Kind, Lifecycle};

/// Commands that may wait for the task; whoever sends more waits with them.
const COMMANDS_MAX: usize = 1_000;
/// What replicas' tasks have to say; they wait where it is full.
const EVENTS_MAX: usize = 256;
/// One prepare's answers: waiting, reserved, ready.
const ANSWERS_MAX: usize = 3;
/// Stages at once, for each core.
const STAGES_A_CORE: usize = 32;
/// Stands for no deadline.
const NEVER: Duration = Duration::from_secs(86_400);

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

enum Event {
    Ready(String),
    Ended { replica: String, why: String },
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

struct Owner {
    slots: Slots,
    answers: HashMap<u64, mpsc::Sender<Answer>>,
    tickets: u64,
    parts: Parts,
    events: mpsc::Sender<Event>,
    received: mpsc::Receiver<Event>,
}

impl Owner {
    fn new(parts: Parts) -> Owner {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        // No other life of this agent has used it: names of replicas are names of folders and of procedures.
        let prefix = format!("{:08x}r", rand::random::<u32>());
        let settings = *parts.settings.borrow();
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let slots = Slots::new(settings, STAGES_A_CORE * cores, prefix);
        Owner {
            slots,
            answers: HashMap::new(),
            tickets: 0,
            parts,
            events,
            received,
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> anyhow::Result<()> {
        let stopping = self.parts.lifecycle.stopping();
        let mut settings = self.parts.settings.clone();
        let mut links = self.parts.links.clone();
        loop {
            let deadline = self
                .slots
                .next_deadline()
                .unwrap_or_else(|| Instant::now() + NEVER);
            tokio::select! {
                () = stopping.cancelled() => break,
                Some(command) = commands.recv() => self.command(command),
                Some(event) = self.received.recv() => self.event(event),
                Ok(()) = settings.changed() => {
                    let settings = *settings.borrow_and_update();
                    info!(?settings, "settings of the pool");
                    self.slots.set(Instant::now(), settings);
                }
                Ok(()) = links.changed() => {
                    let linked = links.borrow_and_update().clone();
                    self.linked(&linked);
                }
                () = sleep_until(deadline) => self.slots.tick(Instant::now()),
            }
            self.carry_out();
        }
        self.slots.stop_all();
        self.carry_out();
        Ok(())
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Prepare {
                request,
                answers,
                ticket,
            } => {
                self.tickets += 1;
                self.answers.insert(self.tickets, answers);
                // Whoever does not wait for the ticket dropped the answers too, which is seen below.
                let _ = ticket.send(self.tickets);
                self.slots.prepare(now, self.tickets, request);
            }
            Command::Cancel(ticket) => {
                self.answers.remove(&ticket);
                self.slots.cancel(now, ticket);
            }
            Command::Commit(run) => self.slots.commit(&run),
            Command::Abort { run, attempt, done } => {
                self.slots.abort(now, &run, attempt);
                let _ = done.send(());
            }
            Command::Count(count) => {
                let _ = count.send((self.slots.used(), self.slots.counters));
            }
        }
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Ready(replica) => self.slots.ready(now, &replica),
            Event::Ended { replica, why } => self.slots.ended(now, &replica, &why),
        }
    }

    fn linked(&mut self, linked: &BTreeSet<u64>) {
        for node in self.slots.coordinators() {
            if node != self.parts.node && !linked.contains(&node) {
                debug!(node, "a coordinator's link is lost: what its runs had is free");
                self.slots.coordinator_lost(Instant::now(), node);
            }
        }
    }

    fn carry_out(&mut self) {
        // An answer that finds nobody frees what it was about, which may be an answer to others.
        loop {
            let effects = self.slots.take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                match effect {
                    Effect::Answer(ticket, answer) => self.answer(ticket, answer),
                    Effect::Start(spec) => self.start(spec),
                    Effect::Stop(replica) => self.parts.backend.stop(&replica),
                    Effect::Freed(node, run) => {
                        let _ = self.parts.freed.try_send((node, run));
                    }
                }
            }
        }
        // Those whose reservations ended without a last answer: aborted while they waited, or of a lost coordinator.
        self.answers.retain(|_, answers| !answers.is_closed());
    }

    fn answer(&mut self, ticket: u64, answer: Answer) {
        let is_last = matches!(answer, Answer::Ready(_) | Answer::Failed(_));
        if let Answer::Failed(error @ PrepareError::Unavailable(_)) = &answer {
            warn!("a run is refused: {error}");
        }
        let Some(answers) = self.answers.get(&ticket) else {
            return;
        };
        // There is room for all answers of a prepare: it fails only where nobody is left.
        let is_gone = answers.try_send(answer).is_err();
        if is_last || is_gone {
            self.answers.remove(&ticket);
        }
        if is_gone {
            self.slots.cancel(Instant::now(), ticket);
        }
    }

    /// One task a replica, from its start to its end.
    fn start(&mut self, spec: ReplicaSpec) {
        let (backend, events) = (self.parts.backend.clone(), self.events.clone());
        self.parts.lifecycle.spawn(Kind::Work, "replica", async move {
            let replica = spec.replica.clone();
            let why = match backend.start(&spec).await {
                Ok(ended) => {
                    // A pool that is gone has told the backend to stop it.
                    let _ = events.send(Event::Ready(replica.clone())).await;
                    ended.await.unwrap_or_else(|_| "its executor is gone".to_owned())
                }
                Err(error) => error.to_string(),
            };
            let _ = events.send(Event::Ended { replica, why }).await;
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests;
