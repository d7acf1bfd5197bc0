//! One stage of a run, as its coordinator sees it.
//!
//! ```text
//! placed -> called -> ready -> (start) -> started -> exited -> closed -> ended
//! ```
//!
//! *Exited*: the process is gone and its status known. *Closed*: its stdout ended, which descendants may put off.
//! *Ended*: the shim has killed what was left, cleaned up and said how many bytes went through.

use std::time::SystemTime;

use pipes_protocol::stage::{Exit, Totals};
use pipes_wamp::message::Payload;

/// How far a stage has come, and what it left.
#[derive(Debug, Clone, Default)]
pub struct Stage {
    /// Node it was placed on.
    pub node: u64,
    /// That node's name, for people.
    pub node_name: String,
    /// The replica that serves it, once reserved.
    pub replica: String,
    /// How far that node lets the window of its input grow, in bytes.
    pub window: Option<u64>,
    /// Request id of its stage call; 0 before.
    pub call: u64,
    /// Its hop to the next stage is proved.
    pub ready: bool,
    /// Its process began.
    pub started: Option<SystemTime>,
    /// Its process ended.
    pub exit: Option<Exit>,
    /// Its stdout ended, after so many bytes.
    pub closed: Option<u64>,
    /// Bytes in and out so far, as the shim said last.
    pub counts: Option<(u64, u64)>,
    /// Bytes in and out, once the shim is done with it.
    pub ended: Option<(u64, u64)>,
    /// The stage call's error, its URI first.
    pub error: Option<(String, String)>,
}

impl Stage {
    /// Whether its call has been answered for good.
    pub fn is_over(&self) -> bool {
        self.ended.is_some() || self.error.is_some()
    }

    /// Takes the final result of its call.
    pub fn end(&mut self, payload: Payload<'_>) {
        let totals = Totals::parse(payload);
        let bytes_out = totals.bytes_out.or(self.closed);
        self.ended = Some((totals.bytes_in.unwrap_or(0), bytes_out.unwrap_or(0)));
    }
}
