//! Clients of this node's router: how they come in, what they send, what waits for them.

pub(crate) mod authentication;
pub(crate) mod connection;
pub(crate) mod entering;
mod input;
pub(crate) mod internal;
mod large;
mod lifetime;
pub(crate) mod listener;
pub(crate) mod out_queue;
mod pace;
mod read;
pub(crate) mod stream;
pub(crate) mod stuck;

pub(crate) use large::LargeRoom;
