//! How much an invocation's working folder may hold, and what comes of more.

use std::time::Instant;

use pipes_protocol::size;

use super::{End, Invocation, Replica};
use crate::disk::Room;

impl Invocation {
    /// Finds out how much its folder holds, where that matters, and ends it if that is more than it may.
    pub(super) fn watch_folder(&mut self, replica: &mut Replica, now: Instant) {
        let max = self.spec.scratch;
        let is_wanted = replica.disk.look(now) != Room::Plenty || max.is_some();
        self.usage.watch(
            &self.made,
            is_wanted,
            max.unwrap_or(u64::MAX),
            now,
            &replica.background,
        );
        if let Some(max) = max.filter(|max| self.held() > Some(*max)) {
            let max = size::shown(max);
            let why =
                format!("its scratch directory held more than {max}, which is all that --scratch allows");
            self.end(End::OverLimit(why));
        }
    }

    /// Whether nobody knows yet how much its folder holds, and it is being found out.
    pub fn is_looked_through(&self) -> bool {
        self.takes_a_slot() && self.usage.is_first()
    }

    /// How much its folder holds, in bytes, where that was found out.
    pub fn held(&self) -> Option<u64> {
        self.usage.held()
    }
}
