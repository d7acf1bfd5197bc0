//! An asynchronous client: [`connect()`] gives a [`Connection`], the quick way for those who drive messages themselves;
//! [`Session`] is the comfortable one over it.
//!
//! ```no_run
//! use pipes_wamp::client::{Auth, Endpoint, Session, connect};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = Endpoint::Tcp("127.77.0.1:7072".parse()?);
//! let session = Session::start(connect(&endpoint, "default", &Auth::Anonymous).await?);
//! let sum = session.call_once("com.example.sum", vec![1.into(), 2.into()], None).await?;
//! println!("{:?}", sum.as_payload().args()?);
//! session.stop().await;
//! # Ok(())
//! # }
//! ```

mod call;
mod command;
mod connect;
mod connection;
mod delivery;
mod error;
mod leaver;
mod outgoing;
mod read_buffer;
mod register;
mod session;
mod state;
mod stream;
mod task;
#[cfg(test)]
mod tests;

pub use call::Call;
pub use command::CallOptions;
pub use connect::{Auth, Endpoint, connect, join, tcp};
pub use connection::{Connection, Reader, Writer};
pub use delivery::{Answer, Chunk, INVOCATIONS_MAX};
pub use error::CallError;
pub use register::{Invocation, Registration};
pub use session::Session;
