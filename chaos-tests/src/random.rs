//! Seeds, and data that a seed stands for.
//!
//! A test asks for `seed("differential")`: the value is printed, so that a failing run shows it, and
//! `PIPES_SEED=VALUE` repeats that run.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// The seed of this run, printed under the test's name.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("PIPES_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| rand::rng().next_u64() >> 32);
    println!("{test}: PIPES_SEED={seed} repeats this");
    seed
}

/// A generator from a seed.
pub fn generator(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// `len` random bytes, the same for the same seed.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    generator(seed).fill_bytes(&mut bytes);
    bytes
}
