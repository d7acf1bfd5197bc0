//! The routers of other nodes: the links to them, what waits for a link, what comes over it.

pub(crate) mod frame;
mod lifetime;
pub(crate) mod link;
mod liveness;
mod pieces;
mod receive;
pub(crate) mod registrations;
pub(crate) mod send_queues;
