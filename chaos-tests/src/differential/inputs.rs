//! The kinds of input a line is given.

use rand::rngs::StdRng;
use rand::{Rng, RngCore};

/// A kind of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing at all.
    Empty,
    /// Random octets, NUL among them.
    Binary,
    /// Lines, the last one without its newline.
    NoFinalNewline,
    /// Lines of words.
    Words,
    /// Lines of numbers, many of them twice.
    Numbers,
    /// Some megabytes of lines.
    Megabytes,
    /// One line of 200 kB.
    LongLine,
    /// Newlines and spaces only.
    Blank,
}

/// Every kind.
pub const INPUTS: [Kind; 8] = [
    Kind::Empty,
    Kind::Binary,
    Kind::NoFinalNewline,
    Kind::Words,
    Kind::Numbers,
    Kind::Megabytes,
    Kind::LongLine,
    Kind::Blank,
];

const WORDS: [&str; 12] = [
    "alpha",
    "Beta",
    "gamma,delta",
    "x=1",
    "it's",
    "\"quoted\"",
    "tab\tbed",
    "ERROR",
    "42",
    "ymca",
    "zoo",
    "a.b.c",
];

impl Kind {
    /// An input of this kind.
    pub fn make(self, random: &mut StdRng) -> Vec<u8> {
        match self {
            Kind::Empty => Vec::new(),
            Kind::Binary => {
                let mut bytes = vec![0; random.random_range(1..300_000)];
                random.fill_bytes(&mut bytes);
                bytes
            }
            Kind::NoFinalNewline => {
                let mut bytes = words(random, 5_000);
                bytes.extend_from_slice(b"the end");
                bytes
            }
            Kind::Words => words(random, 40_000),
            Kind::Numbers => {
                let lines = random.random_range(1..5_000);
                (0..lines)
                    .flat_map(|_| format!("{}\n", random.random_range(0..700)).into_bytes())
                    .collect()
            }
            Kind::Megabytes => {
                let block = words(random, 64 * 1024);
                block
                    .iter()
                    .copied()
                    .cycle()
                    .take(random.random_range(3..6) * 1024 * 1024)
                    .collect()
            }
            Kind::LongLine => {
                let mut bytes: Vec<u8> = (0..200_000).map(|_| random.random_range(b'a'..=b'z')).collect();
                bytes.push(b'\n');
                bytes
            }
            Kind::Blank => (0..random.random_range(1..2_000))
                .map(|_| b"\n \n"[random.random_range(0..3)])
                .collect(),
        }
    }
}

fn words(random: &mut StdRng, about: usize) -> Vec<u8> {
    let mut text = String::new();
    while text.len() < about {
        for _ in 0..random.random_range(0..6) {
            text.push_str(WORDS[random.random_range(0..WORDS.len())]);
            text.push(' ');
        }
        text.push('\n');
    }
    text.into_bytes()
}
