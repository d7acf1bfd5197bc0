//! The command line from outside: what it answers without a cluster (`golden`), and what `run` does with its
//! descriptors and signals against an agent that plays a part (`agent`, `run`).

mod agent;
mod golden;
mod run;
