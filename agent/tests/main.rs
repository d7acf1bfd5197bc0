//! Tests of the agent's parts together, over real sockets and disks; what needs processes is in chaos-tests.

mod certificates;
mod mesh;
