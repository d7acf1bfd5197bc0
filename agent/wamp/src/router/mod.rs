//! The router's core: sessions and the dealer as functions of what came in. No socket, clock or thread.
//!
//! A message comes in from a session or, as a [`PeerMessage`], over a link from another node; what must go out is handed to
//! an [`Outbox`] at once, payloads still borrowed from the buffer they were read into.
//!
//! ```text
//! caller            dealer                                    callee
//! CALL 7 com.sum -> call {caller: (s1, 7), callee: (s2, 1)} -> INVOCATION 1
//! RESULT 7       <- taken out again                         <- YIELD 1
//! ```
//!
//! | file | what it knows |
//! |---|---|
//! | `session` | a session from HELLO to GOODBYE |
//! | `authorization` | who may register and call what |
//! | `realm` | who is behind a procedure |
//! | `dealer` | calls, their chunks, answers and ends |
//! | `peer_message` | what two nodes say to each other about a call |
//! | `keys`, `outbox` | names of what the dealer keeps; where it puts what goes out |
//! | `arena` | slots whose keys are never mistaken for an earlier tenant's |
//!
//! Later: `broker` (topics) beside `dealer`, shared registrations in `realm`, other serializers below the [`Outbox`].

mod arena;
mod authorization;
mod dealer;
mod keys;
mod outbox;
mod peer_message;
mod realm;
mod session;

pub use arena::{Arena, Key};
pub use authorization::{Rights, Role};
pub use dealer::{Dealer, Next, Onto, Own, Refused, Violation};
pub use keys::{CallKey, End, LinkKey, SessionKey};
pub use outbox::{Charge, Ended, Outbox, Way};
pub use peer_message::PeerMessage;
pub use session::{Features, Gate, Handshake, Identity, Outcome, Verdict};

#[cfg(test)]
mod scripts;
