//! An operator: damages a host while all others are well, and does what it says when its store is refused.
//!
//! A host is struck only while all others hold all that was applied and can do without it: then nothing that was
//! acknowledged is lost with it.

use pipes_raft::Error;
use pipes_sim_seam::disk::{self, Loss};

use crate::damage::{
    self, {Answer, Reset},
};
use crate::life::alive;
use crate::plan::VOTERS_MAX;
use crate::world::World;

/// How long the operator waits before the others are asked again.
const PATIENCE_MS: u64 = 1_000;

impl World {
    /// Damages a host, if one is due and all are well.
    pub fn strike(&mut self) {
        if !self.plan.has_damage || !self.damage.is_due(self.now_ms) || !self.is_safe_to_lose_one() {
            return;
        }
        let voters = self.plan.hosts.min(VOTERS_MAX);
        let (number, down_ms) = self.damage.draw(self.now_ms, voters);
        self.crash(number, Loss::Killed, down_ms);
        if let Some(what) = self.damage.strike(number) {
            self.note(what);
            self.shared.lock().count("octets changed");
        }
    }

    /// All are up on disks that are well, have applied all that anybody has, and can do without any one of them.
    fn is_safe_to_lose_one(&self) -> bool {
        let last = {
            let history = self.shared.lock();
            if !history.checks.can_lose_one() {
                return false;
            }
            history.checks.last_applied()
        };
        self.hosts.iter().all(|host| {
            let status = host.slot.node().map(|node| node.status());
            let holds = status.is_some_and(|status| status.term == 0 || status.applied == last);
            let is_well = disk::faults(&host.name) == self.plan.disk;
            holds && host.is_running() && host.slot.has_joined() && is_well
        })
    }

    /// Has the others remove who was refused, and lets it begin anew.
    pub(crate) fn operate(&mut self) {
        if let Some((number, why)) = self.refused.take() {
            self.refuse(number, &why);
        }
        let (Some(number), Some(reset)) = (self.damage.host, &mut self.damage.reset) else {
            return;
        };
        match reset.answer.take() {
            Some(Ok(()) | Err(Error::MemberNotFound)) => {
                self.damage.reset = None;
                self.damage.host = None;
                disk::wipe(&format!("n{number}"));
                self.begin_anew(number);
            }
            Some(Err(error)) => self.note(format!("n{number} is not reset: {error}")),
            None if self.now_ms >= reset.ask_at => {
                reset.ask_at = self.now_ms + PATIENCE_MS;
                let (id, answer) = (reset.id, reset.answer.clone());
                self.ask_to_reset(number, id, answer);
            }
            None => {}
        }
    }

    /// Takes a host down whose files were refused.
    fn refuse(&mut self, number: usize, why: &str) {
        if !damage::advises_reset(why, number) {
            return self.fail(format!("n{number}'s files are damaged, and it says: {why}"));
        }
        let id = self.shared.lock().checks.id(&format!("n{number}"));
        self.note(format!("n{number}, whose id is {id}, is refused: {why}"));
        self.end_for_good(number);
        self.damage.reset = Some(Reset {
            id,
            ask_at: self.now_ms,
            answer: Answer::default(),
        });
    }

    fn ask_to_reset(&self, number: usize, id: u64, answer: Answer) {
        let others = self.hosts.iter().filter(|host| host.number != number);
        let able: Vec<_> = others
            .filter(|host| host.is_running() && host.slot.has_joined())
            .filter_map(|host| Some((host, host.slot.node()?)))
            .collect();
        if able.is_empty() {
            return;
        }
        let (host, node) = &able[(self.now_ms / PATIENCE_MS) as usize % able.len()];
        let (name, store) = (host.name.clone(), node.store());
        host.spawn(async move {
            answer.give(alive(&name, store.reset_member(id)).await);
        });
    }
}
