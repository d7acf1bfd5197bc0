//! Figures of Pipes on this machine.
fn main() {}
