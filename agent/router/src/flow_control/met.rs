//! How often limits were met.

/// Since the router began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Met {
    /// A connection was not read because it did not take the router's own answers.
    pub own_answers: u64,
    /// A session was not read because what it had sent, or its calls' answers, was not taken.
    pub not_taken: u64,
    /// A call, or an answer, was refused because too much waited for whom it was for.
    pub refused: u64,
    /// A user's connection was not read because users' realms held too much.
    pub users_held: u64,
    /// A connection waited for room for a message over 64 KiB.
    pub large_waits: u64,
    /// One ended because its message over 64 KiB did not come.
    pub large_ended: u64,
    /// A user's session ended because it held much, and took nothing, where others needed room.
    pub stuck_ended: u64,
}
