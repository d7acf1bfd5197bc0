//! Chance that is none: numbers that a seed fixes, the same on every machine and in every version of this program.

/// A source of numbers (SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The source that `seed` names.
    pub fn new(seed: u64) -> Chance {
        Chance { state: seed }
    }

    /// A source of its own for a part of the world: what that part draws changes nothing for the others.
    pub fn part(&self, name: &str) -> Chance {
        let mut state = self.state ^ 0x51_7c_c1_b7_27_22_0a_95;
        for octet in name.bytes() {
            state = mix(state.wrapping_add(u64::from(octet)));
        }
        Chance { state }
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.any() % end }
    }

    /// A number of the range, both ends included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A number of the range, small ones as often as large ones of ten times their size.
    pub fn scaled(&mut self, low: u64, high: u64) -> u64 {
        let (low_bits, high_bits) = (low.max(1).ilog2(), high.max(1).ilog2());
        let bits = self.between(u64::from(low_bits), u64::from(high_bits));
        self.between(1 << bits, (2 << bits) - 1).clamp(low, high)
    }

    /// True `per_mille` times of a thousand.
    pub fn is(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_its_numbers_and_parts_are_apart() {
        let mut chance = Chance::new(7);
        let mut same = Chance::new(7);
        assert_eq!(chance.part("a").any(), same.part("a").any());
        assert_ne!(chance.part("a").any(), chance.part("b").any());
        let drawn: Vec<u64> = (0..100).map(|_| chance.scaled(3, 5000)).collect();
        assert_eq!(drawn, (0..100).map(|_| same.scaled(3, 5000)).collect::<Vec<_>>());
        assert!(drawn.iter().all(|drawn| (3..=5000).contains(drawn)));
    }
}
