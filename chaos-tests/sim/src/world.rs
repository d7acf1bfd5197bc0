//! The world: hosts, network, faults and checks, a millisecond at a time.

use pipes_sim_seam::Chance;
use pipes_sim_seam::disk::{self, Faults, Loss};

use crate::book::Shared;
use crate::check::Checks;
use crate::damage::{self, Damage};
use crate::host::Host;
use crate::network::{Arrived, Network};
use crate::panics;
use crate::plan::Plan;

/// How long a process that failed stays down before it is started again.
const RESTART_MS: u64 = 200;
/// How often an operator looks for a node that goes on without its store, and starts it anew.
const STARTED_ANEW_MS: u64 = 4000;

/// A world.
pub struct World {
    /// What its seed fixes.
    pub plan: Plan,
    /// Simulated milliseconds.
    pub now_ms: u64,
    /// The network.
    pub network: Network,
    /// What clients and world share.
    pub shared: Shared,
    /// The hosts, by their numbers.
    pub(crate) hosts: Vec<Host>,
    /// What is damaged.
    pub(crate) damage: Damage,
    /// The damaged host, once its store is refused, and why.
    pub(crate) refused: Option<(usize, String)>,
    crashes: u64,
    restarts: u64,
    /// Nothing is to fail any more, whatever happens.
    is_healed: bool,
}

/// How a run went.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was wrong, if anything was.
    pub violations: Vec<String>,
    /// The last events.
    pub trace: Vec<String>,
    /// The sum over all events, and their number.
    pub sum: (u64, u64),
    /// Counts for a summary.
    pub counts: Vec<(&'static str, u64)>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> World {
        let mut chance = Chance::new(plan.seed).part("world");
        let network = Network::new(chance.part("network"), plan.delay_ms_max, plan.loss);
        let hosts = (1..=plan.hosts)
            .map(|number| Host::new(number, &plan, &mut chance))
            .collect();
        let shared = Shared::default();
        {
            let mut history = shared.lock();
            history.checks = Checks::new(plan.drift_max);
            history.has_jobs = plan.jobs.is_some();
            let terms = plan.jobs.as_ref().map(|jobs| jobs.terms.clone());
            history.ledger.wishes.send_replace(terms.unwrap_or_default());
            history.note(format!("{plan:?}"));
        }
        World {
            now_ms: 0,
            network,
            shared,
            hosts,
            refused: None,
            damage: Damage::new(Chance::new(plan.seed).part("octets")),
            crashes: 0,
            restarts: 0,
            is_healed: false,
            plan,
        }
    }

    pub(crate) fn set_disks(&self, faults: Faults) {
        for host in &self.hosts {
            disk::set_faults(&host.name, faults);
        }
    }

    pub(crate) fn heal(&mut self) {
        self.note("all faults end".into());
        self.is_healed = true;
        self.shared.lock().is_calm = true;
        for host in &mut self.hosts {
            disk::set_faults(&host.name, disk::Faults::default());
            disk::disarm(&host.name);
            if let Some(until) = &mut host.stands_until {
                *until = self.now_ms + 1;
            }
            if let Some(at) = &mut host.starts_at {
                *at = (*at).min(self.now_ms + 1);
            }
        }
    }

    pub(crate) fn run_until(&mut self, limit_ms: u64, reached: impl Fn(&World) -> bool) -> bool {
        let until = self.now_ms + limit_ms;
        while self.now_ms < until {
            if self.has_failed() {
                return true;
            }
            self.step();
            if self.now_ms.is_multiple_of(20) && reached(self) {
                return true;
            }
        }
        false
    }

    pub(crate) fn step(&mut self) {
        self.now_ms += 1;
        self.shared.lock().now_ms = self.now_ms;
        self.deliver();
        for at in 0..self.hosts.len() {
            if self.hosts[at].starts_at.is_some_and(|at| at <= self.now_ms) {
                self.restarts += 1;
                self.note(format!("n{} starts", at + 1));
                self.hosts[at].start(&self.plan, &self.network, &self.shared);
            }
            self.hosts[at].step(self.now_ms);
            if self.plan.jobs.is_some() && self.hosts[at].is_running() {
                self.shared.lock().ledger.lives(at + 1);
            }
            self.look_after(at);
            self.read_clock(at);
        }
        self.operate();
        self.end_stopped();
        let mut history = self.shared.lock();
        history.check(Checks::stepped);
        for panic in panics::take() {
            history.fail(format!("a panic: {panic}"));
        }
    }

    fn read_clock(&self, at: usize) {
        let host = &self.hosts[at];
        if let Some((now_ms, has_replica)) = host.store_ms() {
            let mut history = self.shared.lock();
            history.check(|checks, history| checks.read(&host.name, now_ms, has_replica, history));
        }
    }

    fn deliver(&mut self) {
        let hosts = &self.hosts;
        let stands_still = |number: usize| {
            hosts
                .get(number - 1)
                .is_some_and(|host| host.stands_until.is_some())
        };
        let arrived = self.network.lock().arrived(self.now_ms, stands_still);
        for arrived in arrived {
            match arrived {
                Arrived::Answer(bytes, reply) => drop(reply.send(Ok(bytes))),
                Arrived::Request(request) => {
                    let Some(host) = self.hosts.get(request.to - 1) else {
                        continue;
                    };
                    if let Err(request) = host.take(request, &self.network) {
                        let refused = pipes_raft::TransportError::NotSent("nobody listens".into());
                        let _ = request.reply.send(Err(refused));
                    }
                }
            }
        }
    }

    /// Does what a supervisor and an operator do: starts what has ended, and wants to know why.
    fn look_after(&mut self, at: usize) {
        let host = &self.hosts[at];
        if host.is_up() && disk::is_off(&host.name) {
            let down_ms = 1 + self.now_ms * 7919 % 1500;
            self.note(format!("n{} has ended within an operation", at + 1));
            self.crash(at + 1, Loss::Killed, down_ms);
            return;
        }
        if let Some(refusal) = host.slot.refusal() {
            if self.damage.is_of(at + 1) {
                self.refused = Some((at + 1, refusal.to_string()));
                return;
            }
            // A disk that gave back nothing for a while may give it back at the next start.
            if !host.has_met_errors() {
                self.fail(format!("n{} does not start: {refusal}", at + 1));
            }
            self.crash(at + 1, Loss::Killed, RESTART_MS);
            return;
        }
        let taken_out = host.slot.node().and_then(|node| node.status().sick);
        if let Some(why) = taken_out {
            // What its disk refused ends its store as well; then it has not come upon the damage yet.
            if self.damage.is_of(at + 1) && (damage::advises_reset(&why, at + 1) || !host.has_met_errors()) {
                self.refused = Some((at + 1, why));
                return;
            }
            if !host.has_met_errors() {
                return self.fail(format!("n{} is taken out: {why}", at + 1));
            }
            // Its disk failed, and it opens its store again by itself. An operator who sees it for so long starts it anew.
            if self.now_ms.is_multiple_of(STARTED_ANEW_MS) {
                self.note(format!("n{} is sick and started anew: {why}", at + 1));
                self.crash(at + 1, Loss::Killed, RESTART_MS);
            }
            return;
        }
        // A store that has ended by itself, and was not yet seen by its node: its disk failed. Sometimes it is not left to it.
        let has_ended = self.now_ms.is_multiple_of(200)
            && host.is_running()
            && host.slot.node().is_some_and(|node| node.has_ended());
        if has_ended {
            let had_fault = host.has_met_errors() || self.damage.is_of(at + 1);
            self.note(format!("n{}'s store has ended", at + 1));
            if !had_fault {
                self.fail(format!("n{}'s store has ended, and its disk was well", at + 1));
            }
            self.crash(at + 1, Loss::Killed, RESTART_MS);
        }
    }

    /// Ends a host's process; it starts again after `down_ms`.
    pub fn crash(&mut self, number: usize, loss: Loss, down_ms: u64) {
        let Some(host) = self.hosts.get_mut(number - 1) else {
            return;
        };
        if !host.is_up() {
            return;
        }
        self.crashes += 1;
        // It is another process that starts.
        let shared = self.shared.lock();
        shared
            .ledger
            .stopping
            .send_if_modified(|hosts| hosts.remove(&number));
        drop(shared);
        let Some(host) = self.hosts.get_mut(number - 1) else {
            return;
        };
        let lost = host.stop(loss, &self.network);
        self.shared.lock().checks.ended(&host.name);
        host.starts_at = Some(self.now_ms + down_ms);
        self.note(format!("n{number} ends for {down_ms} ms: {loss:?} {lost:?}"));
    }

    /// Has a host's process stop in order.
    pub fn stop_in_order(&mut self, number: usize) {
        self.note(format!("n{number} is to stop in order"));
        let shared = self.shared.lock();
        shared
            .ledger
            .stopping
            .send_if_modified(|hosts| hosts.insert(number));
    }

    /// Ends the processes that have stopped in order.
    fn end_stopped(&mut self) {
        let stopped = std::mem::take(&mut self.shared.lock().ledger.stopped);
        for number in stopped {
            self.shared.lock().count("stops in order");
            self.crash(number, Loss::Killed, RESTART_MS);
        }
    }

    /// Ends a host's process, which nothing starts again.
    pub(crate) fn end_for_good(&mut self, number: usize) {
        self.crash(number, Loss::Killed, 0);
        self.hosts[number - 1].starts_at = None;
    }

    /// Starts a host that was emptied and removed.
    pub(crate) fn begin_anew(&mut self, number: usize) {
        let host = &mut self.hosts[number - 1];
        host.slot.set_removed();
        host.starts_at = Some(self.now_ms + 1);
        let mut history = self.shared.lock();
        history.checks.forget(&host.name);
        history.count("members reset");
        history.note(format!("n{number} begins anew"));
    }

    /// Lets a host stand still.
    pub fn freeze(&mut self, number: usize, for_ms: u64) {
        let until = self.now_ms + for_ms;
        let Some(host) = self.hosts.get_mut(number - 1) else {
            return;
        };
        if host.is_running() {
            host.stands_until = Some(until);
            self.note(format!("n{number} stands still for {for_ms} ms"));
        }
    }

    /// The host that leads, as far as anybody knows.
    pub fn leader(&self) -> Option<usize> {
        self.hosts.iter().find_map(|host| {
            let status = host.slot.node()?.status();
            (status.leader.is_some() && status.leader == status.id).then_some(host.number)
        })
    }

    /// Notes an event.
    pub fn note(&self, what: String) {
        self.shared.lock().note(what);
    }

    pub(crate) fn fail(&self, why: String) {
        self.shared.lock().fail(why);
    }

    pub(crate) fn has_failed(&self) -> bool {
        !self.shared.lock().violations.is_empty()
    }

    fn statuses(&self) -> Vec<pipes_raft::Status> {
        let nodes = self.hosts.iter().filter_map(|host| host.slot.node());
        nodes.map(|node| node.status()).collect()
    }

    /// All are up and of one mind about who leads.
    pub(crate) fn is_whole(&self) -> bool {
        let all = self.statuses();
        let with_replica: Vec<_> = all.iter().filter(|status| status.term > 0).collect();
        let is_agreed = with_replica
            .windows(2)
            .all(|pair| (pair[0].leader, pair[0].term) == (pair[1].leader, pair[1].term));
        all.len() == self.hosts.len()
            && all.iter().all(|status| status.sick.is_none())
            && self.hosts.iter().all(|host| host.slot.has_joined())
            && with_replica.first().is_some_and(|status| status.leader.is_some())
            && is_agreed
    }

    /// All are whole and hold the same.
    pub(crate) fn is_settled(&self) -> bool {
        let all = self.statuses();
        let mut applied = all
            .iter()
            .filter(|status| status.term > 0)
            .map(|status| status.applied);
        let first = applied.next();
        self.is_whole()
            && applied.all(|other| Some(other) == first)
            && self
                .shared
                .lock()
                .checks
                .is_quiet(self.now_ms, first.unwrap_or(0))
    }

    /// Every job is over, and nothing of those that are soon to be forgotten is left.
    pub(crate) fn are_jobs_over(&self) -> bool {
        let book = self.shared.lock();
        book.checks.jobs.are_over(&book)
    }

    /// Every agent has said what it holds.
    pub(crate) fn have_agents_looked(&self) -> bool {
        self.shared.lock().ledger.looked.len() == self.hosts.len()
    }

    pub(crate) fn why_not_whole(&self) -> String {
        let mut why = String::new();
        for host in &self.hosts {
            let status = host.slot.node().map(|node| node.status());
            let state = status.map(|status| (status.id, status.leader, status.term, status.applied));
            why += &format!(
                "n{} up {} joined {}: id, leader, term, applied {state:?}; ",
                host.number,
                host.is_up(),
                host.slot.has_joined()
            );
        }
        why
    }

    pub(crate) fn end(mut self) -> Report {
        let mut history = self.shared.lock();
        let mut counts: Vec<(&'static str, u64)> = history
            .counts
            .iter()
            .map(|(name, count)| (*name, *count))
            .collect();
        counts.push(("crashes", self.crashes));
        counts.push(("starts", self.restarts));
        counts.extend(history.checks.counts());
        counts.push(("messages", self.network.lock().delivered));
        counts.push(("simulated seconds", self.now_ms / 1000));
        let disks: Vec<_> = self.hosts.iter().map(|host| disk::counts(&host.name)).collect();
        counts.push(("syncs", disks.iter().map(|disk| disk.syncs).sum()));
        counts.push(("torn writes", disks.iter().map(|disk| disk.lost.torn).sum()));
        counts.push(("disk errors", disks.iter().map(|disk| disk.errors).sum()));
        let report = Report {
            violations: std::mem::take(&mut history.violations),
            trace: history.trace.last().map(str::to_owned).collect(),
            sum: (history.trace.sum, history.trace.count),
            counts,
        };
        drop(history);
        for host in &mut self.hosts {
            host.stop(Loss::Killed, &self.network);
        }
        report
    }
}
