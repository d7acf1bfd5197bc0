//! The store as its users meet it: whole groups in one process, over a transport in memory that can be cut.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod bounds;
mod clock;
mod cluster;
mod damage;
mod differ;
mod ended;
mod kill;
mod leases;
mod membership;
mod reads;
mod replication;
mod restart;
mod watches;
