//! A run: a world forms, lives through its faults, and must be whole again and hold what it should.

use std::panic::AssertUnwindSafe;

use pipes_raft::sim;
use pipes_sim_seam::disk::{self, Faults};
use pipes_sim_seam::{Chance, Mutant};

use crate::faults::Schedule;
use crate::panics;
use crate::plan::Plan;
use crate::world::{Report, World};

/// Longest that the group may take to be whole at first, in milliseconds.
const FORMED_MS: u64 = 120_000;
/// Longest that a disk takes for an operation meanwhile.
const FORMING_STALL_MS: u64 = 100;
/// Longest that it may take to be whole again once nothing is wrong any more.
pub const HEALED_MS: u64 = 30_000;

/// Longest that jobs may take to end once nothing is wrong any more: some wait for others, and rest between attempts.
const ENDED_MS: u64 = 600_000;

/// Runs the world of a seed.
pub fn run(seed: u64, mutant: Option<Mutant>, is_loud: bool) -> Report {
    run_plan(Plan::of(seed), mutant, is_loud)
}

/// Runs the world of a seed, with jobs.
pub fn run_jobs(seed: u64, mutant: Option<Mutant>, is_loud: bool) -> Report {
    run_plan(Plan::of_jobs(seed), mutant, is_loud)
}

/// Runs the world of a plan.
pub fn run_plan(plan: Plan, mutant: Option<Mutant>, is_loud: bool) -> Report {
    panics::collect();
    disk::clear();
    sim::reset();
    pipes_sim_seam::clear_limits();
    pipes_sim_seam::set_mutant(mutant);
    for (name, value) in &plan.limits {
        pipes_sim_seam::set_limit(name, *value);
    }
    let mut world = World::new(plan);
    world.shared.lock().trace.is_loud = is_loud;
    let lived = std::panic::catch_unwind(AssertUnwindSafe(|| live(&mut world)));
    if lived.is_err() {
        world.fail(format!("a panic of the world itself: {:?}", panics::take()));
    }
    let report = world.end();
    panics::leave();
    report
}

fn live(world: &mut World) {
    let chance = Chance::new(world.plan.seed).part("faults");
    if !world.plan.is_rough_start {
        // On disks that take seconds for each sync a group may take minutes to form, which shows nothing.
        world.set_disks(Faults {
            stall_ms_max: world.plan.disk.stall_ms_max.min(FORMING_STALL_MS),
            ..world.plan.disk
        });
        let is_formed = |world: &World| world.hosts.iter().all(|host| host.slot.has_joined());
        if !world.run_until(FORMED_MS, is_formed) {
            return world.fail("the group does not form".into());
        }
        world.set_disks(world.plan.disk);
    }
    let mut schedule = Schedule::new(chance, world.now_ms + 1);
    let until = world.now_ms + world.plan.faults_ms;
    while world.now_ms < until && !world.has_failed() {
        schedule.step(world);
        world.strike();
        world.step();
    }
    schedule.end(world);
    world.heal();
    if world.has_failed() {
        return;
    }
    let is_whole = |world: &World| world.is_whole();
    if !world.run_until(HEALED_MS, is_whole) {
        let why = world.why_not_whole();
        return world.fail(format!("not whole within {HEALED_MS} ms after all faults: {why}"));
    }
    if world.plan.jobs.is_some() && !world.run_until(ENDED_MS, World::are_jobs_over) {
        let why = world.shared.lock().checks.jobs.open();
        return world.fail(format!("not all jobs are over within {ENDED_MS} ms: {why}"));
    }
    world.shared.lock().is_quiet = true;
    if world.plan.jobs.is_some() && !world.run_until(ENDED_MS, World::have_agents_looked) {
        return world.fail("an agent does not list the jobs, or still holds one".into());
    }
    let is_settled = |world: &World| world.is_settled();
    if !world.run_until(HEALED_MS, is_settled) {
        let why = world.why_not_whole();
        return world.fail(format!("not settled within {HEALED_MS} ms: {why}"));
    }
    let nodes: Vec<_> = world.hosts.iter().filter_map(|host| host.slot.node()).collect();
    world
        .shared
        .lock()
        .check(|checks, history| checks.at_end(&nodes, history));
}
