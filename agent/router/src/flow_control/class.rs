//! Classes of connections: who shares room and turns with whom.
//!
//! What users' applications send, or do not read, is never felt by a stage, an operator or another agent.

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
