//! The pool's task: it owns the slots, and turns commands, ends of prepares, replicas' news, settings and the clock into
//! what the slots say is to be done; and it shows what is there and free.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pipes_protocol::reservation::PrepareError;
use pipes_protocol::supply::Supply;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tracing::{info, warn};

use crate::executor::backend::{ReplicaSpec, StartError};
use crate::executor::pool::answer::Answer;
use crate::executor::pool::state::{Effect, Slots};
use crate::executor::pool::supply::memory_percent;
use crate::executor::pool::{Command, Ended, Parts};
use crate::lifecycle::Kind;

/// What replicas' tasks have to say; they wait where it is full.
const EVENTS_MAX: usize = 256;
/// Stages at once, for each core.
const STAGES_A_CORE: usize = 32;
/// Stands for no deadline.
const NEVER: Duration = Duration::from_secs(86_400);
/// How often the memory is looked at.
const MEMORY_EVERY: Duration = Duration::from_secs(1);

/// What a replica's task has to say.
enum Event {
    Ready(String),
    Failed { replica: String, error: StartError },
    Ended { replica: String, why: String },
}

/// All that the task has.
pub(super) struct Owner {
    slots: Slots,
    /// Where the answers to open prepares go.
    answers: HashMap<u64, mpsc::Sender<Answer>>,
    ended: Ended,
    parts: Parts,
    events: mpsc::Sender<Event>,
    received: mpsc::Receiver<Event>,
    shown: watch::Sender<Supply>,
    processors: u32,
    memory_percent: u32,
    /// One moment by both clocks, so that a time shown is always the same one.
    moment: (Instant, Duration),
}

impl Owner {
    /// The task, and where it shows what is there.
    pub(super) fn new(parts: Parts, ended: Ended) -> (Owner, watch::Receiver<Supply>) {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        // No other life of this agent has used it: names of replicas are names of folders and of procedures.
        let prefix = format!("{:08x}r", rand::random::<u32>());
        let settings = *parts.settings.borrow();
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let slots = Slots::new(settings, STAGES_A_CORE * cores, prefix);
        let (shown, supply) = watch::channel(Supply::default());
        let mut owner = Owner {
            slots,
            answers: HashMap::new(),
            ended,
            parts,
            events,
            received,
            shown,
            processors: cores as u32,
            memory_percent: memory_percent(),
            moment: (
                Instant::now(),
                SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            ),
        };
        owner.show();
        (owner, supply)
    }

    /// Runs until the agent stops.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> anyhow::Result<()> {
        let stopping = self.parts.lifecycle.stopping();
        let mut settings = self.parts.settings.clone();
        let mut memory = tokio::time::interval(MEMORY_EVERY);
        memory.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self
                .slots
                .next_deadline()
                .unwrap_or_else(|| Instant::now() + NEVER);
            tokio::select! {
                () = stopping.cancelled() => break,
                Some(command) = commands.recv() => self.command(command),
                () = self.ended.notify.notified() => {}
                Some(event) = self.received.recv() => self.event(event),
                Ok(()) = settings.changed() => {
                    let settings = *settings.borrow_and_update();
                    info!(?settings, "settings of the pool");
                    self.slots.set(Instant::now(), settings);
                }
                _ = memory.tick() => self.memory_percent = memory_percent(),
                () = sleep_until(deadline) => self.slots.tick(Instant::now()),
            }
            self.end_dropped();
            self.carry_out();
            self.show();
        }
        self.slots.stop_all();
        self.carry_out();
        Ok(())
    }

    /// Frees what those had that were dropped.
    fn end_dropped(&mut self) {
        for ticket in self.ended.take() {
            self.answers.remove(&ticket);
            self.slots.end(Instant::now(), ticket);
        }
    }

    /// Shows what is there, if it is something else than before.
    fn show(&mut self) {
        let supply = Supply {
            processors: self.processors,
            memory_percent: self.memory_percent,
            ..self.slots.supply(|time| self.wall_ms(time))
        };
        self.shown
            .send_if_modified(|known| (*known != supply).then(|| *known = supply).is_some());
    }

    /// Milliseconds since 1970, for people.
    fn wall_ms(&self, time: Instant) -> u64 {
        let (moment, wall) = self.moment;
        (wall + time.duration_since(moment)).as_millis() as u64
    }

    fn command(&mut self, command: Command) {
        // What was dropped before this was asked is free.
        self.end_dropped();
        match command {
            Command::Prepare {
                request,
                ticket,
                answers,
            } => {
                // One that was dropped before this has been ended already.
                if !answers.is_closed() {
                    self.answers.insert(ticket, answers);
                    self.slots.prepare(Instant::now(), ticket, request);
                }
            }
            Command::Wish(wish) => self.slots.wish(Instant::now(), wish),
            Command::Count(count) => {
                let _ = count.send((self.slots.used(), self.slots.counters));
            }
        }
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Ready(replica) => self.slots.ready(now, &replica),
            Event::Failed { replica, error } => self.slots.failed(now, &replica, &error),
            Event::Ended { replica, why } => self.slots.ended(now, &replica, &why),
        }
    }

    fn carry_out(&mut self) {
        for effect in self.slots.take_effects() {
            match effect {
                Effect::Answer(ticket, answer) => self.answer(ticket, answer),
                Effect::Start(spec) => self.start(spec),
                Effect::Stop(replica) => self.parts.backend.stop(&replica),
            }
        }
    }

    fn answer(&mut self, ticket: u64, answer: Answer) {
        if let Answer::Failed(error @ PrepareError::Unavailable(_)) = &answer {
            warn!("a run is refused: {error}");
        }
        if let Some(answers) = self.answers.get(&ticket) {
            // There is room for all answers of a prepare: it fails only where nobody is left, which ends the ticket.
            let _ = answers.try_send(answer);
        }
    }

    /// One task a replica, from its start to its end.
    fn start(&mut self, spec: ReplicaSpec) {
        let (backend, events) = (self.parts.backend.clone(), self.events.clone());
        self.parts.lifecycle.spawn(Kind::Work, "replica", async move {
            let replica = spec.replica.clone();
            let last = match backend.start(&spec).await {
                Ok(ended) => {
                    // A pool that is gone has told the backend to stop it.
                    let _ = events.send(Event::Ready(replica.clone())).await;
                    let why = ended.await.unwrap_or_else(|_| "its executor is gone".to_owned());
                    Event::Ended { replica, why }
                }
                Err(error) => Event::Failed { replica, error },
            };
            let _ = events.send(last).await;
            Ok(())
        });
    }
}
