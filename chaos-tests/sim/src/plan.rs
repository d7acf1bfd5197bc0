//! What a seed fixes: sizes, settings, how clients and faults behave. Some seeds are calm, some dense: the mix of
//! faults decides what is found.

use std::collections::BTreeMap;
use std::time::Duration;

use pipes_job::state::Terms;
use pipes_sim_seam::{Chance, disk::Faults};

/// Hosts beyond so many have no replica.
pub const VOTERS_MAX: usize = 5;

/// A world as its seed draws it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Hosts; beyond five they have no replica.
    pub hosts: usize,
    /// Clients on each host.
    pub clients: u64,
    /// Keys that clients write.
    pub keys: u64,
    /// Longest pause of a client between two requests, in milliseconds.
    pub pause_ms_max: u64,
    /// Longest value, in octets.
    pub value_max: u64,
    /// Simulated milliseconds of faults.
    pub faults_ms: u64,
    /// Mean simulated milliseconds between faults.
    pub fault_gap_ms: u64,
    /// Whether faults begin before the group is whole.
    pub is_rough_start: bool,
    /// Longest delay of a message, in milliseconds.
    pub delay_ms_max: u64,
    /// Messages lost, of a thousand.
    pub loss: u64,
    /// How far a clock runs fast or slow, in parts of a thousand.
    pub drift_max: u64,
    /// Entries between snapshots.
    pub snapshot_entries: u64,
    /// Octets of the log between snapshots, and of the disk that history may take.
    pub bytes: (u64, u64),
    /// How disks behave when nothing is wrong with them.
    pub disk: Faults,
    /// Which kinds of faults come, each with its weight.
    pub weights: Weights,
    /// Whether hosts end soon after they have installed a snapshot.
    pub has_aim: bool,
    /// Whether octets change on disks.
    pub has_damage: bool,
    /// Limits of the store, by name.
    pub limits: Vec<(&'static str, u64)>,
    /// Jobs, in a world that has them.
    pub jobs: Option<JobsPlan>,
}

/// Jobs as a seed draws them.
#[derive(Debug, Clone)]
pub struct JobsPlan {
    /// Clients on each host.
    pub clients: u64,
    /// Longest pause of one between two requests, in milliseconds.
    pub pause_ms_max: u64,
    /// Idempotency keys that they use.
    pub keys: u64,
    /// What the workflows say.
    pub terms: BTreeMap<String, Terms>,
}

/// How often each kind of fault comes, beside the others.
#[derive(Debug, Clone, Copy)]
pub struct Weights {
    pub crash: u64,
    pub crash_all: u64,
    pub cut: u64,
    pub freeze: u64,
    pub slow_disk: u64,
    pub bad_disk: u64,
    /// A host's process stops in order.
    pub stop: u64,
    /// A workflow is stopped, and started again later.
    pub wish: u64,
    /// A host is cut off for longer than an attempt may go on.
    pub cut_for_long: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        let mut chance = Chance::new(seed).part("plan");
        let c = &mut chance;
        let is_dense = c.is(300);
        // Disks so slow, and frames, segments and snapshots so small, that much waits for the disk whenever anything fails.
        let is_slow = c.is(100);
        let stall_ms_max = match is_slow {
            true => c.pick(&[200, 500, 1000]),
            false => c.pick(&[0, 5, 30, 30, 200, 500, 2000]),
        };
        Plan {
            seed,
            hosts: c.pick(&[3, 3, 3, 3, 4, 5, 5, 6]),
            clients: c.between(1, 3),
            keys: c.scaled(2, 24),
            pause_ms_max: c.scaled(5, 400),
            value_max: c.scaled(16, 8000),
            faults_ms: c.between(6_000, 20_000),
            fault_gap_ms: if is_dense {
                c.between(60, 400)
            } else {
                c.between(400, 3_000)
            },
            is_rough_start: c.is(150),
            delay_ms_max: c.pick(&[1, 2, 5, 5, 20, 60]),
            loss: c.pick(&[0, 0, 0, 1, 5, 20]),
            drift_max: c.pick(&[0, 0, 2, 20, 50]),
            snapshot_entries: if is_slow {
                c.between(10, 40)
            } else {
                c.scaled(10, 400)
            },
            disk: Faults {
                stall: if stall_ms_max == 0 {
                    0
                } else if is_slow {
                    500
                } else {
                    c.pick(&[20, 200, 1000])
                },
                stall_ms_max,
                short_write: c.pick(&[0, 0, 100]),
                ..Faults::default()
            },
            weights: Weights {
                crash: c.between(1, 6),
                crash_all: c.between(0, 4),
                cut: c.between(0, 3),
                freeze: c.between(0, 2),
                slow_disk: c.between(0, 3),
                bad_disk: c.pick(&[0, 0, 1]),
                stop: 0,
                wish: 0,
                cut_for_long: 0,
            },
            // Drawn apart, so that all else is as without it.
            bytes: {
                let c = &mut Chance::new(seed).part("bytes");
                (c.scaled(100_000, 4_000_000), c.scaled(50_000, 8_000_000))
            },
            has_aim: Chance::new(seed).part("aim").is(300),
            has_damage: Chance::new(seed).part("damage").is(150),
            limits: limits(c, is_slow),
            jobs: None,
        }
    }

    /// The plan of a seed for a world with jobs: a store that has less to bear, so that jobs come to something.
    pub fn of_jobs(seed: u64) -> Plan {
        let mut chance = Chance::new(seed).part("jobs");
        let c = &mut chance;
        let is_dense = c.is(300);
        let is_cut_for_long = c.is(60);
        let plan = Plan::of(seed);
        Plan {
            hosts: c.pick(&[1, 3, 3, 3, 3, 4, 5, 6]),
            clients: 0,
            faults_ms: match is_cut_for_long {
                true => 100_000,
                false => c.between(6_000, 20_000),
            },
            fault_gap_ms: match (is_cut_for_long, is_dense) {
                (true, _) => c.between(4_000, 12_000),
                (_, true) => c.between(150, 800),
                _ => c.between(800, 4_000),
            },
            is_rough_start: false,
            loss: plan.loss.min(5),
            disk: Faults {
                stall_ms_max: plan.disk.stall_ms_max.min(30),
                ..plan.disk
            },
            weights: Weights {
                crash: c.between(1, 6),
                crash_all: c.between(0, 2),
                cut: c.between(0, 3),
                freeze: c.between(0, 4),
                slow_disk: c.between(0, 2),
                // The store's own seeds look at that.
                bad_disk: 0,
                stop: c.between(0, 3),
                wish: c.between(0, 2),
                cut_for_long: if is_cut_for_long { 4 } else { 0 },
            },
            has_aim: false,
            has_damage: false,
            jobs: Some(JobsPlan {
                clients: c.between(1, 2),
                pause_ms_max: c.scaled(100, 2_000),
                keys: c.scaled(1, 8),
                terms: ["one", "two"].map(|name| (name.to_owned(), terms(c))).into(),
            }),
            ..plan
        }
    }
}

fn terms(c: &mut Chance) -> Terms {
    let seconds = Duration::from_secs;
    Terms {
        is_running: true,
        definition: 1,
        at_once: c.pick(&[1, 2, 4, 16]),
        retries: c.pick(&[0, 0, 1, 2]),
        timeout: c.pick(&[None, Some(seconds(2)), Some(seconds(60))]),
        keep: c.pick(&[Duration::ZERO, seconds(3), seconds(3_600), seconds(3_600)]),
        grace: c.pick(&[Duration::from_millis(50), seconds(2)]),
    }
}

/// Limits of the store, so small that their edges are met often.
fn limits(c: &mut Chance, is_slow: bool) -> Vec<(&'static str, u64)> {
    vec![
        (
            "segment_bytes",
            c.scaled(2_000, if is_slow { 6_000 } else { 200_000 }),
        ),
        (
            "frame_bytes",
            c.scaled(500, if is_slow { 1_000 } else { 100_000 }),
        ),
        ("room", c.pick(&[512, 4_096, 16_384])),
        ("cache_bytes", c.scaled(500, 100_000)),
        ("patience_ms", c.scaled(20, 2_000)),
        ("piece_bytes", c.scaled(4_000, 50_000)),
        ("snapshot_frame_bytes", c.scaled(500, 50_000)),
        ("message_bytes", c.scaled(1_000, 100_000)),
        ("applied_at_once", c.scaled(1, 64)),
        ("history_records", c.scaled(4, 200)),
        ("watch_queue", c.scaled(2, 64)),
        ("block_file_bytes", c.scaled(500, 200_000)),
        ("log_growth", c.scaled(500, 20_000)),
    ]
}
