//! Random workflow lines, and what is right about each: what `sh` makes of the same line.
//!
//! `lines` puts a line together of `tools` and `quote`d words, for one of the `inputs`; `shell` runs it in `sh`, every
//! stage's status noted. The test that compares is `tests/promises/differential.rs`.

mod inputs;
pub mod lines;
mod quote;
pub mod shell;
mod tools;

pub use inputs::{INPUTS, Kind};
pub use tools::TOOLS;
