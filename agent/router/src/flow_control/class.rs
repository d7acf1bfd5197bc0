//! Classes of connections: who shares room and turns with whom.
//!
//! What users' applications send, or do not read, is never felt by a stage, an operator or another agent.

use std::time::Duration;

/// Whose a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The agent itself, in its own realms.
    Own,
    /// A stage's shim.
    Stages,
    /// An operator, or a program with a token.
    Operators,
    /// A user's application, or somebody who has not said who he is.
    Users,
}

/// In which order they are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    First,
    Entering,
    Users,
}

impl Rank {
    /// All of them, in that order.
    pub const ALL: [Rank; 3] = [Rank::First, Rank::Entering, Rank::Users];

    /// How long a turn is theirs at most. Together so short that whoever comes first hardly notices, and so long that what
    /// a turn costs by itself (a poll, the clock) does not matter.
    pub fn budget(self) -> Option<Duration> {
        match self {
            // They are few, and trusted.
            Rank::First => None,
            Rank::Entering => Some(Duration::from_millis(1)),
            Rank::Users => Some(Duration::from_millis(4)),
        }
    }
}
