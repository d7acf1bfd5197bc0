//! How much of each call the router holds, who pays for it and who waits.
//!
//! `window` is one direction of one call, `ledger` all of them with what sessions owe (`account`), `room` what is
//! held for one session and for users' realms, `class` who shares it, `met` how often
//! there was none.

mod account;
pub(crate) mod class;
pub(crate) mod ledger;
pub(crate) mod met;
pub(crate) mod room;
pub(crate) mod window;
