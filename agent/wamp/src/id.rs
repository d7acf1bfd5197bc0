//! WAMP's identifiers: integers in 1..2^53 (specification, Identifiers).

/// The largest id: what a double holds exactly.
pub const MAX: u64 = 1 << 53;

/// Ids of session scope: 1, 2, 3, ...
#[derive(Debug, Default, Clone)]
pub struct Sequence(u64);

impl Sequence {
    /// The next id; begins anew after 2^53, as the specification has it.
    pub fn next_id(&mut self) -> u64 {
        self.0 = if self.0 >= MAX { 1 } else { self.0 + 1 };
        self.0
    }
}
