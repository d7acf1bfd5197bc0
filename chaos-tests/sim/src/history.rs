//! What clients asked and were told, and what the world knows besides: the checks' and the clients' common ground.

use std::collections::BTreeMap;

use pipes_raft::{Error, TxnResult};

use crate::ledger::Ledger;
use crate::model::Model;
use crate::trace::Trace;

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody was told yet; if its process ended, nobody ever will be.
    Open,
    /// It was done.
    Done,
    /// Every member would refuse it: it was applied and changed nothing.
    Rejected,
    /// It surely was not done.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// A write with its serial.
#[derive(Debug, Clone)]
pub struct WriteOp {
    /// When it began, in simulated milliseconds.
    pub begun_ms: u64,
    /// The highest revision that anybody had been told of when it began.
    pub floor: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// Its answer, once it was done.
    pub answer: Option<TxnResult>,
}

/// A lease as its owner knows it.
#[derive(Debug, Clone, Copy)]
pub struct LeaseOp {
    /// Its term in milliseconds.
    pub ttl_ms: u64,
    /// When the last renewal that was answered began.
    pub renewed_ms: u64,
    /// Whether its owner asked for its end.
    pub is_revoked: bool,
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct History {
    /// Simulated milliseconds.
    pub now_ms: u64,
    /// All faults have ended.
    pub is_calm: bool,
    /// No new requests.
    pub is_quiet: bool,
    /// There are jobs: what the stores do is not what is of interest.
    pub has_jobs: bool,
    next_serial: u64,
    /// The writes by serial.
    pub writes: BTreeMap<u64, WriteOp>,
    /// The leases by id.
    pub leases: BTreeMap<i64, LeaseOp>,
    /// What the store's clock reads after what anybody has applied, in milliseconds.
    pub clock_ms: u64,
    /// The highest revision that a client was told of.
    pub told: i64,
    /// The store as it should be.
    pub model: Model,
    /// What was wrong.
    pub violations: Vec<String>,
    /// What happened.
    pub trace: Trace,
    /// Hosts that have installed a snapshot since the last step.
    pub installed: Vec<String>,
    /// Writes acknowledged since the last step, by serial.
    pub acknowledged: Vec<u64>,
    /// What is known of jobs, in a world that has them.
    pub ledger: Ledger,
    /// Requests by kind and outcome.
    pub counts: BTreeMap<&'static str, u64>,
}

impl History {
    /// Notes an event.
    pub fn note(&mut self, what: String) {
        self.trace.add(self.now_ms, what);
    }

    /// Notes what a store did: where there are jobs, only for the sum.
    pub fn note_deed(&mut self, what: String) {
        match self.has_jobs {
            true => self.trace.add_below(self.now_ms, what),
            false => self.note(what),
        }
    }

    /// Notes that something is wrong.
    pub fn fail(&mut self, why: String) {
        self.trace.add(self.now_ms, format!("VIOLATION {why}"));
        self.violations.push(why);
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A serial for a write that begins.
    pub fn begin_write(&mut self) -> u64 {
        self.next_serial += 1;
        let op = WriteOp {
            begun_ms: self.now_ms,
            floor: self.told,
            outcome: Outcome::Open,
            answer: None,
        };
        self.writes.insert(self.next_serial, op);
        self.next_serial
    }

    /// Ends a write.
    pub fn end_write(&mut self, serial: u64, answer: &Result<TxnResult, Error>) {
        let outcome = match answer {
            Ok(_) => Outcome::Done,
            Err(error) => outcome(error),
        };
        self.count(match outcome {
            Outcome::Done => "writes done",
            Outcome::Rejected => "writes rejected",
            Outcome::Refused => "writes refused",
            Outcome::Unknown | Outcome::Open => "writes unknown",
        });
        let is_done = outcome == Outcome::Done;
        let Some(op) = self.writes.get_mut(&serial) else {
            return;
        };
        op.outcome = outcome;
        op.answer = answer.as_ref().ok().cloned();
        let floor = op.floor;
        if is_done && let Ok(answer) = answer {
            self.acknowledged.push(serial);
            self.tell(answer.revision);
            if answer.revision < floor {
                self.fail(format!(
                    "write {serial} was answered with revision {}, and {floor} had been told before it began",
                    answer.revision
                ));
            }
        }
    }

    /// What a node reads of the store's clock once it has answered a request that began when `floor_ms` was applied.
    pub fn read_clock(&mut self, host: usize, now_ms: u64, floor_ms: u64) {
        if now_ms < floor_ms {
            self.fail(format!(
                "n{host} reads {now_ms}, and {floor_ms} was applied before it was asked"
            ));
        }
    }

    /// A client was told of a revision.
    pub fn tell(&mut self, revision: i64) {
        self.told = self.told.max(revision);
    }
}

/// What an error says of the request.
pub fn outcome(error: &Error) -> Outcome {
    match error {
        Error::NoLeader | Error::Timeout | Error::TooManyRequests => Outcome::Refused,
        Error::Unknown | Error::Stopped | Error::Disk(_) | Error::Corrupt(_) => Outcome::Unknown,
        _ => Outcome::Rejected,
    }
}
