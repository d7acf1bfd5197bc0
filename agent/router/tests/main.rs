//! Routers over real sockets: one node's alone, and two in this process with a TLS link between them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod authorization;
mod bounds;
mod links;
mod nodes;
mod one_node;
mod registrations;
mod splice;
mod storm;
