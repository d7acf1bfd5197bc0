//! What the store is linked with in a simulation, in place of the operating system: files ([`fs`]), sled ([`sled`]),
//! limits drawn small ([`limit`]) and mistakes made on purpose ([`Mutant`]).
//!
//! A simulated world lives on one thread, and so does all of this: it is found through the thread, since the store
//! opens files by name as it does in earnest. The first part of a path is the host: `/n2/log/00000001.seg` lies on
//! the disk of `n2`, which loses power apart from all others.

mod chance;
mod crash;
pub mod disk;
pub mod fs;
mod inode;
mod mutant;
pub mod sled;

pub use chance::Chance;
pub use mutant::{Mutant, is_mutant, set_mutant};

use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    static LIMITS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Draws a limit of the store's: from now on [`limit`] gives `value` for `name`.
pub fn set_limit(name: &'static str, value: u64) {
    LIMITS.with_borrow_mut(|limits| limits.insert(name, value));
}

/// Forgets all limits that were drawn.
pub fn clear_limits() {
    LIMITS.with_borrow_mut(BTreeMap::clear);
}

/// The limit of this name, or the one the store has in earnest.
pub fn limit(name: &str, earnest: u64) -> u64 {
    LIMITS.with_borrow(|limits| limits.get(name).copied().unwrap_or(earnest))
}
