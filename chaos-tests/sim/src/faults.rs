//! What goes wrong, and when: drawn one after another, each from the plan's weights.

use pipes_sim_seam::Chance;
use pipes_sim_seam::disk::{self, Faults, Loss};

use crate::network::Link;
use crate::world::World;

/// The faults of a run, and what comes later.
pub struct Schedule {
    chance: Chance,
    /// Drawn apart, so that all else is as without it.
    apart: Chance,
    aim: Chance,
    next_ms: u64,
    later: Vec<(u64, Later)>,
}

enum Later {
    /// Links are open again.
    Open(Vec<(usize, usize)>),
    /// A disk is well again.
    Mend(usize),
    /// A host is cut off for so long.
    CutOff(usize, u64),
    /// A workflow is started again.
    Start(String),
}

impl Schedule {
    /// Faults from `begin_ms` on.
    pub fn new(chance: Chance, begin_ms: u64) -> Schedule {
        Schedule {
            apart: chance.part("apart"),
            aim: chance.part("aim"),
            chance,
            next_ms: begin_ms,
            later: Vec::new(),
        }
    }

    /// Does what is due.
    pub fn step(&mut self, world: &mut World) {
        let now = world.now_ms;
        let (due, later) = std::mem::take(&mut self.later)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.later = later;
        for (_, what) in due {
            self.carry_out(world, what);
        }
        self.aim(world);
        if now >= self.next_ms {
            let gap = world.plan.fault_gap_ms;
            self.next_ms = now + self.chance.between(1, 2 * gap);
            self.fault(world);
        }
    }

    /// Hosts that have installed a snapshot replace their logs: now there is most to get wrong.
    fn aim(&mut self, world: &mut World) {
        let installed = std::mem::take(&mut world.shared.lock().installed);
        for host in installed {
            if world.plan.has_aim && self.aim.is(500) {
                let operations = self.aim.scaled(1, 60);
                world.note(format!(
                    "{host} will end within {operations} operations, its log being purged"
                ));
                disk::arm(&host, operations, Loss::Killed);
            }
        }
    }

    /// Ends all that is wrong.
    pub fn end(&mut self, world: &mut World) {
        for (_, what) in std::mem::take(&mut self.later) {
            if !matches!(what, Later::CutOff(..)) {
                self.carry_out(world, what);
            }
        }
        world.network.lock().heal();
    }

    fn carry_out(&mut self, world: &mut World, what: Later) {
        match what {
            Later::Open(links) => {
                world.note(format!("links open again: {links:?}"));
                let mut net = world.network.lock();
                for (from, to) in links {
                    net.set_link(from, to, Link::Open);
                }
            }
            Later::Mend(number) => {
                world.note(format!("n{number}'s disk is well again"));
                disk::set_faults(&format!("n{number}"), world.plan.disk);
            }
            Later::CutOff(number, for_ms) => self.cut_off(world, number, Link::Refused, for_ms),
            Later::Start(workflow) => wish(world, &workflow, true),
        }
    }

    fn cut_off(&mut self, world: &mut World, number: usize, link: Link, for_ms: u64) {
        let others = (1..=world.plan.hosts).filter(|other| *other != number);
        let links = others
            .flat_map(|other| [(number, other), (other, number)])
            .collect();
        self.cut_links(world, link, links, for_ms);
    }

    fn cut_links(&mut self, world: &mut World, link: Link, links: Vec<(usize, usize)>, for_ms: u64) {
        world.note(format!("links {link:?}: {links:?}"));
        for (from, to) in &links {
            world.network.lock().set_link(*from, *to, link);
        }
        self.later.push((world.now_ms + for_ms, Later::Open(links)));
    }

    fn fault(&mut self, world: &mut World) {
        let weights = world.plan.weights;
        let kinds: [(u64, fn(&mut Schedule, &mut World)); 9] = [
            (weights.crash, Schedule::crash_one),
            (weights.crash_all, Schedule::crash_all),
            (weights.cut, Schedule::cut),
            (weights.freeze, Schedule::freeze),
            (weights.slow_disk, Schedule::slow_disk),
            (weights.bad_disk, Schedule::bad_disk),
            (weights.stop, Schedule::stop),
            (weights.wish, Schedule::stop_workflow),
            (weights.cut_for_long, Schedule::cut_for_long),
        ];
        let mut draw = self.chance.below(kinds.iter().map(|(weight, _)| weight).sum());
        for (weight, fault) in kinds {
            if draw < weight {
                return fault(self, world);
            }
            draw -= weight;
        }
    }

    fn host(&mut self, world: &World) -> usize {
        // The leader every other time: it has most to lose.
        match world.leader() {
            Some(leader) if self.chance.is(500) => leader,
            _ => self.chance.between(1, world.plan.hosts as u64) as usize,
        }
    }

    fn loss(&mut self) -> Loss {
        self.chance
            .pick(&[Loss::Killed, Loss::All, Loss::Part, Loss::Part])
    }

    fn down_ms(&mut self) -> u64 {
        match self.chance.below(4) {
            0 => self.chance.between(1, 10),
            1 | 2 => self.chance.between(10, 1_500),
            _ => self.chance.between(1_500, 10_000),
        }
    }

    fn crash_one(&mut self, world: &mut World) {
        let number = self.host(world);
        let (loss, down_ms) = (self.loss(), self.down_ms());
        if self.chance.is(500) {
            // Within one of its next operations on the disk.
            let operations = self.chance.scaled(1, 60);
            world.note(format!(
                "n{number} will end within {operations} operations: {loss:?}"
            ));
            disk::arm(&format!("n{number}"), operations, loss);
        } else {
            world.crash(number, loss, down_ms);
        }
    }

    fn crash_all(&mut self, world: &mut World) {
        let loss = self.loss();
        let down_ms = self.down_ms().min(3_000);
        let apart = self.chance.pick(&[0, 0, 5, 300]);
        for number in 1..=world.plan.hosts {
            let down_ms = down_ms + self.chance.between(0, apart);
            world.crash(number, loss, down_ms);
        }
    }

    fn cut(&mut self, world: &mut World) {
        let number = self.host(world);
        let link = self.chance.pick(&[Link::Refused, Link::Hanging]);
        let (is_out, is_in) = self
            .chance
            .pick(&[(true, true), (true, true), (true, false), (false, true)]);
        let is_one_peer = self.chance.is(300);
        let mut links = Vec::new();
        let one = self.chance.between(1, world.plan.hosts as u64) as usize;
        for other in (1..=world.plan.hosts).filter(|other| *other != number) {
            if is_one_peer && other != one {
                continue;
            }
            links.extend(is_out.then_some((number, other)));
            links.extend(is_in.then_some((other, number)));
        }
        let for_ms = self.chance.scaled(50, 8_000);
        self.cut_links(world, link, links, for_ms);
    }

    fn freeze(&mut self, world: &mut World) {
        let number = self.host(world);
        let for_ms = self.chance.scaled(20, 10_000);
        world.freeze(number, for_ms);
    }

    fn slow_disk(&mut self, world: &mut World) {
        let number = self.host(world);
        let faults = Faults {
            stall: 1000,
            stall_ms_max: self.chance.scaled(10, 2_000),
            ..world.plan.disk
        };
        world.note(format!("n{number}'s disk takes up to {} ms", faults.stall_ms_max));
        disk::set_faults(&format!("n{number}"), faults);
        let until = world.now_ms + self.chance.scaled(200, 6_000);
        self.later.push((until, Later::Mend(number)));
        if self.apart.is(300) {
            // What it was sent waits for its disk while the others leave it behind, and send it a snapshot.
            let at = world.now_ms + self.apart.between(200, 1_500);
            let for_ms = self.apart.between(300, 3_000);
            self.later.push((at, Later::CutOff(number, for_ms)));
        }
    }

    /// One disk at a time: the others hold what was acknowledged.
    fn bad_disk(&mut self, world: &mut World) {
        if self.later.iter().any(|(_, what)| matches!(what, Later::Mend(_))) {
            return;
        }
        let number = self.host(world);
        let mut faults = world.plan.disk;
        match self.chance.below(4) {
            0 => faults.write_error = 100,
            1 => faults.sync_error = 100,
            2 => faults.read_error = 50,
            _ => {
                let size = disk::size(&format!("n{number}"));
                faults.capacity = Some(size + self.chance.scaled(100, 50_000));
            }
        }
        world.note(format!("n{number}'s disk is bad: {faults:?}"));
        disk::set_faults(&format!("n{number}"), faults);
        let until = world.now_ms + self.chance.scaled(200, 4_000);
        self.later.push((until, Later::Mend(number)));
    }

    fn stop(&mut self, world: &mut World) {
        let number = self.host(world);
        world.stop_in_order(number);
    }

    fn stop_workflow(&mut self, world: &mut World) {
        let names: Vec<String> = world
            .plan
            .jobs
            .iter()
            .flat_map(|jobs| jobs.terms.keys().cloned())
            .collect();
        let Some(name) = names.get(self.chance.below(names.len() as u64) as usize) else {
            return;
        };
        wish(world, name, false);
        let until = world.now_ms + self.chance.scaled(10, 5_000);
        self.later.push((until, Later::Start(name.clone())));
    }

    fn cut_for_long(&mut self, world: &mut World) {
        let number = self.host(world);
        let link = self.chance.pick(&[Link::Refused, Link::Hanging]);
        let for_ms = self.chance.between(62_000, 90_000);
        self.cut_off(world, number, link, for_ms);
    }
}

/// A workflow takes jobs up, or does not.
fn wish(world: &mut World, workflow: &str, is_running: bool) {
    world.note(format!("workflow {workflow} runs: {is_running}"));
    let history = world.shared.lock();
    history.ledger.wishes.send_modify(|terms| {
        if let Some(terms) = terms.get_mut(workflow) {
            terms.is_running = is_running;
        }
    });
}
