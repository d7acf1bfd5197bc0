//! How much of each call the router holds, who pays for it and who waits.

pub(crate) mod ledger;
pub(crate) mod window;
