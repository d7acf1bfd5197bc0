//! An asynchronous client: [`connect`] gives a [`Connection`], the quick way for those who drive messages themselves;
//! [`Session`] is the comfortable one over it.

mod connection;

pub use connection::{Connection, Reader, Writer};
