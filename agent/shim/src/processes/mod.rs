//! All processes of a stage: the one the shim started, and whatever came of it.
//!
//! | | with a cgroup | without |
//! |---|---|---|
//! | who belongs to it | the kernel knows | descendants of the stage's process, and those orphans of ours that carry its session, its process group or its PIPES_RUN and PIPES_STAGE |
//! | holding | `cgroup.freeze` | SIGSTOP, again until no new one appears |
//! | killing | `cgroup.kill` | one after another, again until none is left |
//! | whether any is left | `cgroup.events`, which can be watched | the shim's children: a look at one file while there are no orphans |
//!
//! All are held before the first is killed: both ways kill one after another, and a process that saw another's death would act on
//! it. In `sh -c 'gunzip | psql'` the death of gunzip is the end of psql's input; in `sh -c 'cat; echo done'` the shell goes on.
//! Whoever is held runs no instruction of its own any more, whatever wakes it, and SIGKILL ends it all the same.
//!
//! An orphan that also wiped its environment cannot be told without a cgroup; it ends when the shim has no invocation left.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{BorrowedFd, RawFd};

use pipes_protocol::stage::Spec;

mod cgroup;
mod proc_table;
mod signal;

pub use cgroup::{Group, Groups};
use signal::{is_stop, send};

/// Looks at all processes before killing starts anyway: what makes new ones faster than that is not to be held, and a
/// process held in one look makes none in the next.
const HOLDING_MAX: usize = 10;

/// The processes of one stage.
pub struct Tree {
    group: Option<Group>,
    main: Option<libc::pid_t>,
    /// Its number may be another's by now, though not while anybody is left in its session or process group.
    is_reaped: bool,
    stamp: [String; 2],
}

impl Tree {
    /// Nobody yet.
    pub fn new(spec: &Spec, group: Option<Group>) -> Tree {
        let stamp = crate::environment::stamp(spec).map(|(name, value)| format!("{name}={value}"));
        Tree {
            group,
            main: None,
            is_reaped: false,
            stamp,
        }
    }

    /// The folder of the cgroup, for the start.
    pub fn group(&self) -> Option<BorrowedFd<'_>> {
        self.group.as_ref().map(Group::folder)
    }

    /// Notes the process that was started.
    pub fn begin(&mut self, main: libc::pid_t) {
        self.main = Some(main);
    }

    /// Notes that this process was reaped.
    pub fn main_is_reaped(&mut self) {
        self.is_reaped = true;
    }

    /// What tells that the last process may be gone, beside SIGCHLD.
    pub fn watch(&self) -> Option<RawFd> {
        self.group.as_ref().map(Group::watch)
    }

    /// Holds all processes, then sends SIGKILL to them; whether any was left. Without a cgroup new ones may have come
    /// meanwhile: to be called again until it says no. `mains`: the living processes that the shim started,
    /// for this stage and others.
    pub fn kill(&self, mains: &[libc::pid_t]) -> bool {
        if let Some(group) = &self.group {
            let is_populated = group.is_populated();
            if is_populated {
                group.kill();
            }
            return is_populated;
        }
        let mut held = BTreeSet::new();
        for _ in 0..HOLDING_MAX {
            let members = self.members(mains);
            let known = held.len();
            for pid in members {
                if held.insert(pid) {
                    send(pid, libc::SIGSTOP);
                }
            }
            if held.len() == known {
                break;
            }
        }
        for pid in &held {
            send(*pid, libc::SIGKILL);
        }
        !held.is_empty()
    }

    /// Sends a signal to the process group of the stage; a stopped one goes on, or the signal would wait.
    pub fn signal(&self, number: i32, mains: &[libc::pid_t]) {
        let Some(main) = self.main else { return };
        if !self.is_reaped {
            send(-main, number);
            if !is_stop(number) && proc_table::stat(main).is_some_and(|stat| stat.is_stopped()) {
                send(-main, libc::SIGCONT);
            }
            return;
        }
        let pids = match &self.group {
            Some(group) => group.members(),
            None => self.members(mains),
        };
        for stat in pids
            .into_iter()
            .filter_map(proc_table::stat)
            .filter(|stat| stat.group == main)
        {
            send(stat.pid, number);
            if !is_stop(number) && stat.is_stopped() {
                send(stat.pid, libc::SIGCONT);
            }
        }
    }

    /// Gives the cgroup back, once nobody is in it.
    pub fn into_group(self) -> Option<Group> {
        self.group
    }

    fn members(&self, mains: &[libc::pid_t]) -> Vec<libc::pid_t> {
        let own = proc_table::children_of_self();
        if let Some(children) = &own
            && children
                .iter()
                .all(|pid| mains.contains(pid) && Some(*pid) != self.living_main())
        {
            return Vec::new();
        }
        let table = proc_table::table();
        let mut claims = HashMap::new();
        for stat in table.values() {
            let claim = self.claims(stat, &table, mains, &mut claims);
            claims.insert(stat.pid, claim);
        }
        let alive = |pid: &libc::pid_t| table.get(pid).is_some_and(|stat| !stat.is_dead());
        claims
            .into_iter()
            .filter(|(_, claim)| *claim)
            .map(|(pid, _)| pid)
            .filter(alive)
            .collect()
    }

    /// Whether a process is ours: by the ancestor that is a child of the shim.
    fn claims(
        &self,
        stat: &proc_table::Stat,
        table: &HashMap<libc::pid_t, proc_table::Stat>,
        mains: &[libc::pid_t],
        known: &mut HashMap<libc::pid_t, bool>,
    ) -> bool {
        let shim = std::process::id() as libc::pid_t;
        let mut top = *stat;
        // Processes come and go while the table is read, so that its chains need not end: no longer than it is.
        for _ in 0..table.len() {
            if let Some(claim) = known.get(&top.pid) {
                return *claim;
            }
            if top.parent == shim {
                let is_own = Some(top.pid) == self.living_main();
                return is_own || (!mains.contains(&top.pid) && self.recognizes(&top, mains));
            }
            match table.get(&top.parent) {
                Some(parent) => top = *parent,
                None => return false,
            }
        }
        false
    }

    fn living_main(&self) -> Option<libc::pid_t> {
        self.main.filter(|_| !self.is_reaped)
    }

    fn recognizes(&self, orphan: &proc_table::Stat, mains: &[libc::pid_t]) -> bool {
        // A number that is another stage's by now says nothing.
        let main = self.main.filter(|main| !self.is_reaped || !mains.contains(main));
        let by_number = main.is_some_and(|main| orphan.session == main || orphan.group == main);
        by_number || proc_table::carries(orphan.pid, &self.stamp)
    }
}

/// All processes that came of the shim, for whatever stage.
pub fn descendants() -> Vec<libc::pid_t> {
    proc_table::below(std::process::id() as libc::pid_t)
}

/// Kills every child of the shim; whether there was one. For when none of them belongs to a living invocation.
pub fn kill_all() -> bool {
    let shim = std::process::id() as libc::pid_t;
    let children = proc_table::children_of_self().unwrap_or_else(|| {
        proc_table::table()
            .values()
            .filter(|stat| stat.parent == shim)
            .map(|stat| stat.pid)
            .collect()
    });
    for pid in &children {
        send(*pid, libc::SIGKILL);
    }
    !children.is_empty()
}
