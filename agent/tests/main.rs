//! Tests of the agent's parts together, over real sockets and disks; what needs processes is in chaos-tests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod certificates;
mod gateway;
mod mesh;
