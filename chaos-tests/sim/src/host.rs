//! A host: a disk, a clock, and a process that runs the store with its clients. Each process has a runtime of its own,
//! so that a crash ends all of its tasks wherever they are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipes_raft::{Error, Node, Options, sim};
use pipes_sim_seam::Chance;
use pipes_sim_seam::disk::{self, Loss, Lost};
use tokio::runtime::{Builder, RngSeed, Runtime};

use crate::book::Shared;
use crate::client::{self, Client};
use crate::jobs::{self, Seat};
use crate::life::alive;
use crate::network::{self, Network, Request};
use crate::plan::Plan;

/// What the world and a host's process share.
#[derive(Clone, Default)]
pub struct Slot(Arc<Mutex<Process>>);

#[derive(Default)]
struct Process {
    node: Option<Arc<Node>>,
    refusal: Option<Error>,
    /// It is a member, and was once told so.
    has_joined: bool,
    /// It was a member, and is to be another one.
    was_removed: bool,
}

impl Slot {
    fn with<T>(&self, work: impl FnOnce(&mut Process) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The node, once it is open.
    pub fn node(&self) -> Option<Arc<Node>> {
        self.with(|process| process.node.clone())
    }

    /// Why the node did not open.
    pub fn refusal(&self) -> Option<Error> {
        self.with(|process| process.refusal.clone())
    }

    /// It was emptied, and the others have removed it.
    pub fn set_removed(&self) {
        self.with(|process| (process.has_joined, process.was_removed) = (false, true));
    }

    fn was_removed(&self) -> bool {
        self.with(|process| process.was_removed)
    }

    /// Whether it was a member once.
    pub fn has_joined(&self) -> bool {
        self.with(|process| process.has_joined)
    }
}

/// A host.
pub struct Host {
    /// Its number, from 1 on.
    pub number: usize,
    /// Its name, which its paths begin with.
    pub name: String,
    /// What it shares with its process.
    pub slot: Slot,
    /// When it goes on, if it stands still.
    pub stands_until: Option<u64>,
    /// When it starts again, if it is down.
    pub starts_at: Option<u64>,
    runtime: Option<Runtime>,
    /// A thousand and as many parts of a thousand as its clock runs fast.
    rate: u64,
    /// Parts of a millisecond that its clock lacks, in thousandths.
    owed: u64,
    /// Milliseconds it stood still.
    missed_ms: u64,
    boots: u64,
    /// Errors of its disk before it started.
    errors_before: u64,
}

impl Host {
    /// A host that is down, with an empty disk.
    pub fn new(number: usize, plan: &Plan, chance: &mut Chance) -> Host {
        let name = format!("n{number}");
        disk::add(&name, chance.part(&name));
        disk::set_faults(&name, plan.disk);
        Host {
            number,
            name,
            slot: Slot::default(),
            stands_until: None,
            starts_at: Some(0),
            runtime: None,
            rate: 1000 + chance.between(0, 2 * plan.drift_max) - plan.drift_max,
            owed: 0,
            missed_ms: 0,
            boots: 0,
            errors_before: 0,
        }
    }

    /// Whether its disk has failed since it was started.
    pub fn has_met_errors(&self) -> bool {
        disk::counts(&self.name).errors > self.errors_before
    }

    /// Whether its process runs.
    pub fn is_up(&self) -> bool {
        self.runtime.is_some()
    }

    /// Whether its process runs and does not stand still.
    pub fn is_running(&self) -> bool {
        self.is_up() && self.stands_until.is_none()
    }

    /// Starts its process.
    pub fn start(&mut self, plan: &Plan, network: &Network, shared: &Shared) {
        self.boots += 1;
        self.errors_before = disk::counts(&self.name).errors;
        self.starts_at = None;
        self.stands_until = None;
        (self.owed, self.missed_ms) = (0, 0);
        disk::start(&self.name);
        let chance = Chance::new(plan.seed).part(&format!("{} {}", self.name, self.boots));
        let built = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&chance.clone().any().to_le_bytes()))
            .build();
        #[expect(clippy::expect_used, reason = "a runtime without a thread or a socket")]
        let runtime = built.expect("a runtime");
        self.slot
            .with(|process| (process.node, process.refusal) = (None, None));
        sim::enter(&self.name, chance.part("tasks").any());
        let boot = Boot {
            number: self.number,
            slot: self.slot.clone(),
            plan: plan.clone(),
            network: network.clone(),
            shared: shared.clone(),
            chance,
        };
        runtime.spawn(sim::scoped(boot.run()));
        self.runtime = Some(runtime);
    }

    /// Ends its process.
    pub fn stop(&mut self, loss: Loss, network: &Network) -> Lost {
        let lost = if disk::is_off(&self.name) {
            Lost::default()
        } else {
            disk::stop(&self.name, loss)
        };
        self.slot
            .with(|process| (process.node, process.refusal) = (None, None));
        self.stands_until = None;
        network.lock().ended(self.number);
        // The tasks are dropped here, and whatever they try on the disk then is in vain.
        self.runtime = None;
        lost
    }

    /// Lets its process run for a millisecond of the world.
    pub fn step(&mut self, now_ms: u64) {
        let Some(runtime) = &self.runtime else { return };
        if self.stands_until.is_some_and(|until| now_ms < until) {
            self.missed_ms += 1;
            return;
        }
        sim::enter(&self.name, 0);
        if self.stands_until.take().is_some() {
            // The clock went on meanwhile.
            let missed = Duration::from_millis(std::mem::take(&mut self.missed_ms));
            runtime.block_on(tokio::time::advance(missed));
        }
        self.owed += self.rate;
        let whole_ms = self.owed / 1000;
        self.owed %= 1000;
        if whole_ms > 0 {
            runtime.block_on(async move { tokio::time::sleep(Duration::from_millis(whole_ms)).await });
        }
    }

    /// What its node reads of the store's clock, while it runs; and whether it has a replica.
    pub fn store_ms(&self) -> Option<(u64, bool)> {
        let runtime = self.runtime.as_ref().filter(|_| self.stands_until.is_none())?;
        let node = self.slot.node()?;
        // Its time is this runtime's.
        let _within = runtime.enter();
        Some((node.store().now_ms(), node.status().term > 0))
    }

    /// Has its process do something; it ends with it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            sim::enter(&self.name, 0);
            runtime.spawn(sim::scoped(task));
        }
    }

    /// Gives its node a request, which is answered over the network; `false` if there is no node to take it.
    pub fn take(&self, request: Request, network: &Network) -> Result<(), Request> {
        let (Some(runtime), Some(node)) = (&self.runtime, self.slot.node()) else {
            return Err(request);
        };
        let network = network.clone();
        let name = self.name.clone();
        let number = network.lock().keep(request.to, request.reply);
        runtime.spawn(sim::scoped(async move {
            let answer = alive(&name, node.serve(request.bytes)).await;
            let mut net = network.lock();
            net.answer(request.to, request.from, request.class, answer, number);
        }));
        Ok(())
    }
}

/// What a process begins with.
struct Boot {
    number: usize,
    slot: Slot,
    plan: Plan,
    network: Network,
    shared: Shared,
    chance: Chance,
}

impl Boot {
    async fn run(self) {
        let mut options = Options::new(format!("/n{}/raft", self.number), "simulated");
        options.name = format!("n{}", self.number);
        options.snapshot_entries = self.plan.snapshot_entries;
        (options.snapshot_bytes, options.history_bytes) = self.plan.bytes;
        let wire = Arc::new(self.network.wire(self.number));
        let node = match Node::open(options, None, wire).await {
            Ok(node) => Arc::new(node),
            Err(error) => {
                self.shared
                    .lock()
                    .note(format!("n{} does not open: {error}", self.number));
                self.slot.with(|process| process.refusal = Some(error));
                return;
            }
        };
        let id = node.id();
        self.shared
            .lock()
            .note(format!("n{} is open, id {id:?}", self.number));
        if let Some(why) = node.status().sick {
            node.shutdown().await;
            self.slot
                .with(|process| process.refusal = Some(Error::Corrupt(why)));
            return;
        }
        if self.slot.has_joined() && id.is_none() {
            self.shared
                .lock()
                .fail(format!("n{} has forgotten who it is", self.number));
        }
        self.slot.with(|process| process.node = Some(node.clone()));
        self.enter(&node).await;
        self.slot.with(|process| process.has_joined = true);
        for number in 0..self.plan.clients {
            let chance = self.chance.part(&format!("client {number}"));
            let client = Client::new(&node, self.shared.clone(), chance, self.number, &self.plan);
            tokio::spawn(client.run());
        }
        if let Some(plan) = &self.plan.jobs {
            let chance = self.chance.part("agent");
            if let Some(seat) = Seat::new(self.number, &node, self.shared.clone(), chance, plan) {
                tokio::spawn(sim::scoped(jobs::live(seat)));
            }
            // Whoever needs to watch does so.
            return;
        }
        let from = {
            let history = self.shared.lock();
            let mut chance = self.chance.part("watch");
            chance.between(history.model.compacted.max(1) as u64, history.told.max(1) as u64) as i64
        };
        tokio::spawn(client::watch(
            node.store(),
            self.shared.clone(),
            self.number,
            from,
        ));
    }

    /// Becomes a member, if it is none yet.
    async fn enter(&self, node: &Node) {
        let address = network::address(self.number);
        let others: Vec<_> = (1..=self.plan.hosts)
            .filter(|other| *other != self.number)
            .map(network::address)
            .collect();
        while !self.slot.has_joined() {
            let entered = match self.number {
                1 if node.has_log() && !self.slot.was_removed() => return,
                1 if !self.slot.was_removed() => node.initialize(address).await,
                number => node.join(&others, &format!("n{number}"), address).await.map(drop),
            };
            match entered {
                Ok(()) => self
                    .shared
                    .lock()
                    .note(format!("n{} has joined as {:?}", self.number, node.id())),
                Err(error) => {
                    self.shared
                        .lock()
                        .note(format!("n{} does not join: {error}", self.number));
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            }
            return;
        }
    }
}
