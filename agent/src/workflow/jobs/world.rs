//! Chance, as it is on a server.

use pipes_job::seams::Chance;

/// Chance of the operating system.
pub(super) struct Random;

impl Chance for Random {
    fn bits(&self) -> u128 {
        rand::random()
    }
}

#[cfg(test)]
mod tests {
    use crate::keys;

    #[test]
    fn both_crates_call_keys_alike() {
        use pipes_job::key;
        assert_eq!(key::presence(3), keys::presence(3));
        assert_eq!(key::presences(), keys::presences());
        assert_eq!(key::workflow("words"), keys::workflow("words"));
    }
}
