//! Whose turn it is: links and the agent's realms before newcomers, and those before users' sessions.
//!
//! ```text
//! a turn   first     each that is ready, once      links, the agent's own sessions, stages, operators
//!          entering  for a millisecond at most     who has no session yet
//!          users     for four at most              sessions of users' realms; who had none goes on where this turn ended
//! ```
//!
//! Always: (1) nobody is served twice before all others of his rank were once; (2) those who come first wait for a turn of
//! the others, and no longer, however many those are.

use std::collections::VecDeque;

use pipes_wamp::router::LinkKey;

use crate::clients::connection::ConnectionKey;
use crate::flow_control::class::Rank;

/// Who has something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// A client's connection.
    Connection(ConnectionKey),
    /// A link.
    Link(LinkKey),
}

/// Those who have something to do, by rank.
#[derive(Default)]
pub(crate) struct Turns {
    waiting: [VecDeque<Ready>; 3],
}

impl Turns {
    /// Somebody waits for his turn.
    pub fn push(&mut self, rank: Rank, who: Ready) {
        self.waiting[rank as usize].push_back(who);
    }

    /// Whose turn it is.
    pub fn next(&mut self, rank: Rank) -> Option<Ready> {
        self.waiting[rank as usize].pop_front()
    }

    /// How many of a rank wait.
    pub fn len(&self, rank: Rank) -> usize {
        self.waiting[rank as usize].len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }
}
