//! What a simulated world sees of a node's replica.

use std::sync::Arc;

use crate::state::State;
use crate::{Error, Range, RangeResult};

/// What a replica holds, as the world looks at it.
pub struct Held(pub(super) Arc<State>);

impl Held {
    /// Reads what is applied.
    pub fn range(&self, range: &Range) -> Result<RangeResult, Error> {
        self.0.range(range)
    }

    /// The leases with their milliseconds.
    pub fn leases(&self) -> Vec<(i64, u64)> {
        self.0.leases()
    }
}
