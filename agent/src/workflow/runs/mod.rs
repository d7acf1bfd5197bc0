//! Runs as others know them: what is told of one, where it is kept, and who is under way.

pub mod reconcile;
pub mod record;
pub mod registry;
pub mod signal;
pub mod status;
pub mod view;
