//! WAMP for Pipes: messages, transports, the router's core and a client.
//!
//! Everything but `client` is free of sockets, clocks and tasks, so that the router, the shim and the tests drive the
//! same code each in its own way.
//!
//! | part | what it knows |
//! |---|---|
//! | [`message`], [`payload`] | messages in MessagePack: heads decoded, payloads passed on as bytes |
//! | [`transport`] | RawSocket: handshake and frames |
//! | [`session`] | HELLO to WELCOME, seen from the client |
//! | [`streaming`] | what the two ends of a streaming call say |
//! | [`uris`] | how everything is called |
//! | [`router`] | realms, sessions and the dealer, as functions of what came in |
//! | [`client`] | an asynchronous client (feature `client`) |
//!
//! ```
//! use pipes_wamp::message::{CallOptions, Message};
//! use pipes_wamp::payload::PayloadBuf;
//!
//! let arguments = PayloadBuf::of_values(vec![1.into(), 2.into()], None);
//! let call = Message::Call {
//!     request: 1,
//!     options: CallOptions::default(),
//!     procedure: "com.example.sum",
//!     payload: arguments.as_payload(),
//! };
//! let mut octets = Vec::new();
//! call.encode(&mut octets);
//! assert_eq!(Message::parse(&octets).unwrap(), call);
//! ```
//!
//! Source: the WAMP specification (wamp-proto.org), Basic and Advanced Profile.

#[cfg(feature = "client")]
pub mod client;
pub mod error;
pub mod id;
pub mod message;
pub mod payload;
pub mod router;
pub mod scan;
pub mod session;
pub mod streaming;
pub mod transport;
pub mod uri;
pub mod uris;
pub mod write;

pub use error::Error;
