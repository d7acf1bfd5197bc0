//! How much of each call the router holds, who pays for it and who waits.
//!
//! `window` is one direction of one call, `ledger` all of them with what sessions owe, `class` who shares room.

pub(crate) mod class;
pub(crate) mod ledger;
pub(crate) mod window;
