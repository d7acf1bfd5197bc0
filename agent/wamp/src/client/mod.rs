//! An asynchronous client: [`connect`] gives a [`Connection`], the quick way for those who drive messages themselves;
//! [`Session`] is the comfortable one over it.
//!
//!     let session = Session::start(connect(&endpoint, "pipes", &auth).await?);
//!     let answer = session.call_once("pipes.node.list", vec![], None).await?;

mod connect;
mod connection;
mod session;
mod task;

pub use connect::{Auth, Endpoint, connect};
pub use connection::{Connection, Reader, Writer};
pub use session::{Answer, Call, CallError, CallOptions, Invocation, Registration, Session};
