//! openraft's three traits over what is ours: the log, the state, and the way to the peers.

pub(crate) mod agreement;
mod log_store;
pub(crate) mod network;
pub(crate) mod state_machine;

#[cfg(test)]
mod tests;
