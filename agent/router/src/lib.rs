//! This agent's WAMP router; with those of all other agents it is one router.
//!
//! One thread owns everything: sockets of clients, of the agent's own sessions and of links to other shards, windows, and the
//! dealer (`pipes_wamp::router`, no I/O). Other threads hold a [`Router`] and send commands.
//!
//! ```text
//! clients (TCP, unix) --\                                  /-- links (TLS) to other agents' shards
//! own sessions (pairs) --+-- connections -- dealer -- net -+-- connections
//! Router (commands) ----/      read          |     queues  \-- ...
//!                                         access
//! ```
//!
//! | file | what it knows |
//! |---|---|
//! | `shard` | the loop: events, time |
//! | `command`, `orders` | what other threads ask, and how it is done |
//! | `accept`, `access` | who comes in, through which door, as what |
//! | `connection`, `input` | a client's connection, and what it sends |
//! | `net`, `queue` | what goes out |
//! | `flow`, `account` | whose window it takes, and who waits |
//! | `link`, `lanes`, `frame`, `relay` | a link, what waits for it, its frames, and what comes over it |
//! | `directory` | what other shards know of registrations |
//! | `offer` | sessions of the agent itself |
//!
//! Always: (1) the thread waits for nothing but its sockets; (2) a client's fault ends that client's connection alone;
//! (3) every queue has an owner whose reading stops before it grows without bound.

mod buffers;
mod clients;
mod commands;
mod event_loop;
mod flow_control;
mod handle;
mod outbox;
mod peers;
mod sockets;
mod state;
mod token;

pub use clients::authentication::Credentials;
pub use clients::internal::OwnSession;
pub use clients::listener::Listener;
pub use commands::Counts;
pub use handle::{Router, RouterConfig};
pub use pipes_wamp::router::{Onto, Own, Role};
