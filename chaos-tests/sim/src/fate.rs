//! What becomes of an attempt and what it makes: fixed by the job's input and the attempt's number, so that whoever sees a
//! result knows whether it is right.

use pipes_sim_seam::Chance;

/// Longest that an attempt takes, in milliseconds.
const TAKES_MS_MAX: u64 = 4_000;

/// How an attempt ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a status.
    Exits(i32),
    /// Pipes fails it; with or without a server that was lost.
    Lost(bool),
    /// It can never be run.
    Refused,
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// When it ends, in milliseconds from its beginning.
    pub takes_ms: u64,
    /// How.
    pub end: End,
    /// How long it takes to end once it is to, in milliseconds.
    pub grace_ms: u64,
    /// What it makes is a blob.
    pub is_large: bool,
}

/// The fate of an attempt with this input.
pub fn of(input: &[u8], attempt: u32) -> Fate {
    let source = Chance::new(u64::from(crc32fast::hash(input)));
    // Whatever the attempt, as a service that is asked the same.
    let is_large = source.part("size").is(150);
    let mut chance = source.part(&format!("attempt {attempt}"));
    let takes_ms = chance.scaled(5, TAKES_MS_MAX);
    let end = match chance.below(100) {
        0..78 => End::Exits(0),
        78..88 => End::Exits(1 + chance.below(3) as i32),
        88..98 => End::Lost(chance.is(300)),
        _ => End::Refused,
    };
    Fate {
        takes_ms,
        end,
        grace_ms: chance.pick(&[0, 1, 20, 4_000]),
        is_large,
    }
}

/// What an attempt writes that ends with this status: all of it, or the part that came before it failed.
pub fn output(input: &[u8], status: i32) -> Vec<u8> {
    let begins: &[u8] = if status == 0 { b"made of " } else { b"a part of " };
    [begins, input].concat()
}
