//! The WAMP router of one node; with those of all other nodes it is one router.
//!
//! One thread owns everything: sockets of clients, of the agent's own sessions and of links to other nodes, windows, and the
//! dealer (`pipes_wamp::router`, no I/O). Other threads hold a [`Router`] and send commands.
//!
//! ```text
//! clients (TCP, unix) --\                                      /-- links (TLS) to other nodes' routers
//! own sessions (pairs) --+-- connections -- dealer -- outbox --+-- connections
//! Router (commands) ----/      read            |     queues     \-- ...
//!                                       authentication
//! ```
//!
//! # A call across two nodes
//!
//! A client of node 1 calls `com.sum`, which a client of node 2 has registered. `W` is `pipes_wamp::router`.
//!
//! 1. `event_loop`: the kernel says that the caller's socket has something; `clients/read` reads it once and finds CALL 7.
//! 2. `W::dealer/calls`: may it call that (`W::authorization`), and who is behind it (`W::realm`)? The link to node 2, which told
//!    so when it was registered (`peers/registrations`). The call is known as number 4 of that link from now on.
//! 3. `outbox`: charges the message to the call's flow, and to its caller until it was taken (`flow_control/ledger`).
//! 4. `peers/send_queues`: it waits behind the caller's other first messages and takes turns with other calls, in frames of
//!    64 KiB at most (`peers/frame`).
//! 5. `peers/link`: rustls and one system call, when the loop's turn ends.
//! 6. Node 2, `peers/receive`: frames become a message again; `W::dealer/peers` opens the call here, as invocation 1 of the
//!    callee.
//! 7. `outbox`, `clients/out_queue`: INVOCATION 1, marked with what it costs; `clients/connection` writes it.
//! 8. The callee's socket took it: `flow_control/ledger` releases the cost. It came from node 1: a window frame goes back, and
//!    there the caller is read again, if it had to wait.
//! 9. YIELD 1: `clients/read`, `W::dealer/answers`, `outbox`, the link, and at node 1 `peers/receive`, `W::dealer/peers`: RESULT 7.
//! 10. Both dealers forget the call; what of it nobody has taken yet is its caller's debt (`flow_control/ledger`).
//!
//! | file | what it knows |
//! |---|---|
//! | `handle`, `commands` | what other threads ask, and how it is done |
//! | `event_loop`, `clock`, `state` | events and time; all that the thread owns |
//! | `sockets`, `turns`, `outbox` | who has something to read or write; whose turn it is; where the dealer's messages go |
//! | `clients/` | who comes in as what, a connection's life, what it sends and what waits for it |
//! | `peers/` | links to other nodes, their life and loss, what waits for them, their frames and what comes over them |
//! | `flow_control/` | windows, and who pays for what is held |
//!
//! Always: (1) the thread waits for nothing but its sockets, and one turn of its loop has a bound in time; (2) a client's fault ends that client's connection alone;
//! (3) every queue has an owner whose reading stops before it grows without bound.

mod buffers;
mod clients;
mod clock;
mod commands;
mod event_loop;
mod flow_control;
mod handle;
mod outbox;
mod peers;
mod sockets;
mod state;
mod token;
mod turns;

pub use clients::authentication::{Credentials, Secured, Token};
pub use clients::internal::OwnSession;
pub use clients::listener::{Handshaking, Listener};
pub use commands::Counts;
pub use flow_control::met::Met;
pub use handle::{Router, RouterConfig};
pub use pipes_wamp::router::{Onto, Own, Refused, Rights, Role};
