//! The command line from outside: what it answers without a cluster (`golden`), and what `run` does with its
//! descriptors and signals, and where an agent is stopping, against agents that play a part (`agent`, `run`, `elsewhere`).

mod agent;
mod descriptors;
mod elsewhere;
mod golden;
mod run;
mod stalled;
