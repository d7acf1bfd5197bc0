//! What clients asked of a cluster and were told, and what was done to it: a line each, as it happens.
//!
//! ```text
//! {"at_us":1200345,"job":"j01kb...","key":"3-17","through":"n2","way":"http","waited_us":5120}
//! {"at_us":1210007,"register":2,"write":5000000017,"begun_us":1209000}
//! {"at_us":2000112,"fault":"n2 is killed"}
//! ```
//!
//! The file outlives the harness, whatever ends it; what invariants look at is kept beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::linearizable::{Deed, Operation};

/// A query that was answered with an ID.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The job.
    pub id: String,
    /// The workflow that took it.
    pub workflow: String,
    /// What its result must be.
    pub expected: Vec<u8>,
    /// From the first time it was sent until its ID came.
    pub waited: Duration,
    /// When its ID came, on the history's clock.
    pub at: Duration,
}

/// What invariants look at.
#[derive(Debug, Default)]
pub struct Told {
    /// Queries, in the order of their answers.
    pub accepted: Vec<Accepted>,
    /// Idempotency keys that were answered with more than one ID.
    pub keys_broken: Vec<String>,
    /// Keys whose put was acknowledged, with their values.
    pub kept: BTreeMap<String, String>,
    /// What was done to each register.
    pub registers: BTreeMap<usize, Vec<Operation>>,
    /// Faults, counted by their kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Times in which no majority was up.
    pub without_majority: Vec<(Duration, Duration)>,
}

/// What happened so far.
pub struct History {
    begun: Instant,
    file: Mutex<File>,
    told: Mutex<Told>,
}

impl History {
    /// Writes to this file.
    pub fn to(path: &Path) -> Result<History> {
        let file = File::create(path).with_context(|| format!("write {}", path.display()))?;
        Ok(History {
            begun: Instant::now(),
            file: Mutex::new(file),
            told: Mutex::default(),
        })
    }

    /// Time since it began.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What was told so far. Nobody may panic with it in hand.
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A query was answered.
    pub fn accepted(&self, job: Accepted, key: Option<&str>, through: &str, way: &str) {
        self.line(json!({
            "job": job.id, "workflow": job.workflow, "key": key,
            "bytes": job.expected.len(), "through": through, "way": way, "waited_us": micros(job.waited),
        }));
        self.told().accepted.push(job);
    }

    /// A put of a key of its own was answered.
    pub fn kept(&self, key: String, value: String) {
        self.line(json!({ "kept": key, "value": value }));
        self.told().kept.insert(key, value);
    }

    /// Something was done to a register; without an end, no answer came.
    pub fn operation(&self, register: usize, deed: Deed, begun: Duration, is_answered: bool) {
        let operation = Operation {
            deed,
            begun_us: micros(begun),
            ended_us: is_answered.then(|| micros(self.now())),
        };
        let (verb, number) = match deed {
            Deed::Write(number) => ("write", Some(number)),
            Deed::Read(number) => ("read", number),
        };
        self.line(json!({
            "register": register, verb: number, "begun_us": operation.begun_us, "answered": is_answered,
        }));
        self.told().registers.entry(register).or_default().push(operation);
    }

    /// Something was done to the cluster.
    pub fn fault(&self, kind: &'static str, said: &str) {
        self.line(json!({ "fault": said }));
        *self.told().faults.entry(kind).or_default() += 1;
    }

    /// Anything else worth reading later.
    pub fn note(&self, said: &str) {
        self.line(json!({ "note": said }));
    }

    fn line(&self, mut line: Value) {
        line["at_us"] = micros(self.now()).into();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk is found by those whose files matter.
        let _ = writeln!(file, "{line}");
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("History")
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
