//! The pool's task: it owns the slots, and turns commands, replicas' news, settings, links and the clock into what the
//! slots say is to be done.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use pipes_protocol::reservation::PrepareError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::executor::backend::ReplicaSpec;
use crate::executor::pool::answer::Answer;
use crate::executor::pool::state::{Effect, Slots};
use crate::executor::pool::{Command, Parts};
use crate::lifecycle::Kind;

/// What replicas' tasks have to say; they wait where it is full.
const EVENTS_MAX: usize = 256;
/// Stages at once, for each core.
const STAGES_A_CORE: usize = 32;
/// Stands for no deadline.
const NEVER: Duration = Duration::from_secs(86_400);

/// What a replica's task has to say.
enum Event {
    Ready(String),
    Ended { replica: String, why: String },
}

/// All that the task has.
pub(super) struct Owner {
    slots: Slots,
    answers: HashMap<u64, mpsc::Sender<Answer>>,
    tickets: u64,
    parts: Parts,
    events: mpsc::Sender<Event>,
    received: mpsc::Receiver<Event>,
}

impl Owner {
    pub(super) fn new(parts: Parts) -> Owner {
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

    /// Runs until the agent stops.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> anyhow::Result<()> {
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
