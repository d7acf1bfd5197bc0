//! Tests of Pipes from outside: real clusters of real processes, faults, and what must hold all the same.
//!
//! Nothing here is linked with the product. A test starts a cluster as a user does (`pipes init --local`), runs
//! lines as a user does, breaks things as machines do, and judges by what can be seen from outside: output,
//! statuses, reports, `/proc`, the kernel's counters, and WAMP as any client may speak it.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use pipes_chaos::cluster::Cluster;
//!
//! let cluster = Cluster::start(3)?;
//! cluster.build(&["yes", "head"])?;
//! let run = cluster.run("yes | head -5").finish()?;
//! assert_eq!(run.output(), "y\ny\ny\ny\ny\n");
//! # Ok(())
//! # }
//! ```
//!
//! | part | knows |
//! |---|---|
//! | `cluster/` | how a cluster is started, damaged, mended and ended, and how a line is run over it |
//! | `command.rs`, `terminal.rs` | how a program is run with a limit, and on a terminal |
//! | `damage.rs` | what can happen to a node's files |
//! | `fault.rs` | what can be done to links between agents |
//! | `clock.rs` | wall clocks of agents that can be stepped |
//! | `proc.rs` | what `/proc` says: stages left over, memory, executables; signals |
//! | `differential/` | seeded random workflow lines out of real tools, and the same lines in `sh` |
//! | `power_loss.rs` | what is left of an agent's files after a power loss |
//! | `report.rs` | a run's record as `--report` writes it |
//! | `bench/` | figures beside what they are measured against |
//! | `scenario/` | a seeded round: load, faults in turn, and then what must hold all the same |
//! | `load/`, `history.rs` | clients under faults; what they asked and were told |
//! | `invariant/`, `linearizable.rs` | what must hold, a file each; whether one order explains what clients saw |
//! | `http.rs` | HTTP/1.1, a request after another |
//! | `wamp.rs`, `store.rs` | WAMP over RawSocket, octet by octet; `pipes.store.*` by it |
//! | `wait.rs` | waiting for a state, with a limit |
//! | `random.rs` | seeds, and data that a seed stands for |
//!
//! Always: (1) a cluster lives in folders of its own and is ended on drop, by the ids of what it started, and a
//! process left over then fails the test; (2) whatever is random is printed as a seed and repeated by
//! `PIPES_SEED`; (3) nothing waits without a limit.

pub mod bench;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod damage;
pub mod differential;
pub mod fault;
pub mod history;
pub mod http;
pub mod invariant;
pub mod linearizable;
pub mod load;
pub mod power_loss;
pub mod proc;
pub mod random;
pub mod report;
pub mod scenario;
pub mod store;
pub mod terminal;
pub mod wait;
pub mod wamp;
