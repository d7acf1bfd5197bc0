//! Shards over real sockets: one alone, and two in this process with a TLS link between them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod links;
mod onward;
mod rights;
mod shard;
mod shards;
mod storm;
