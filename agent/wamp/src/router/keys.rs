//! Names of what the dealer keeps: who only passes them on needs nothing else of it.

use super::arena::Key;

/// Marks the names of sessions.
pub enum OfSession {}
/// Marks the names of calls.
pub enum OfCall {}
/// Marks the names of links.
pub enum OfLink {}

/// Names a session.
pub type SessionKey = Key<OfSession>;
/// Names a call.
pub type CallKey = Key<OfCall>;
/// Names a link.
pub type LinkKey = Key<OfLink>;

/// One end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// A session and its number of the call.
    Session(SessionKey, u64),
    /// A link and the call's number on it.
    Link(LinkKey, u64),
}
