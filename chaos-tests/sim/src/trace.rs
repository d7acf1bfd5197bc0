//! What happened, in order: the last events for whoever reads a failure, and a sum over all of them by which two runs
//! of a seed are compared.

use std::collections::VecDeque;

/// Events that a failure prints.
pub const SHOWN: usize = 200;

/// The trace of a run.
#[derive(Debug, Default)]
pub struct Trace {
    last: VecDeque<String>,
    /// Events so far.
    pub count: u64,
    /// A sum over all events.
    pub sum: u64,
    /// Whether each event is printed at once.
    pub is_loud: bool,
}

impl Trace {
    /// Adds an event.
    pub fn add(&mut self, at_ms: u64, what: String) {
        let line = self.sum_up(at_ms, &what);
        if self.is_loud {
            eprintln!("{line}");
        }
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Adds an event that is not shown.
    pub fn add_below(&mut self, at_ms: u64, what: String) {
        self.sum_up(at_ms, &what);
    }

    fn sum_up(&mut self, at_ms: u64, what: &str) -> String {
        let line = format!("{:>6}.{:03} {what}", at_ms / 1000, at_ms % 1000);
        self.count += 1;
        let crc = u64::from(crc32fast::hash(line.as_bytes()));
        self.sum = (self.sum.rotate_left(5) ^ crc).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        line
    }

    /// The last events, oldest first.
    pub fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }
}
