//! Clients of this node's router: how they come in, what they send, what waits for them.

pub(crate) mod authentication;
pub(crate) mod connection;
pub(crate) mod internal;
pub(crate) mod listener;
pub(crate) mod out_queue;
pub(crate) mod read;
