//! The tree's own rules, checked by reading it.
//!
//! | file | rule | why |
//! |---|---|---|
//! | `size.rs` | a Rust file has under 500 lines | beyond that it knows more than one thing |
//! | | a function has at most 70 lines | it fits on a screen; longer ones are listed with their reason, and the list only shrinks |
//! | `words.rs` | a file opens with `//!` | a reader learns what it is for before the first `fn` |
//! | | no file named `util`, `common`, ..., or by a word of our own | a file is named by what it knows, in the field's words |
//! | | no unbounded channel | a queue without a bound is memory without a bound |
//! | | no hosts of registries, no paths of one machine | the tree works wherever it is cloned |
//! | `circles.rs` | no two files import each other | each can be understood without the other |
//! | `layers.rs` | `use` goes one way between the parts of a crate | a part can be understood without those above it |
//! | `crates.rs` | and between crates | as above, and what did not change is not built again |
//! | | every dependency is used, and has its reason | what nobody uses is built and watched for nothing |
//! | `scripts.rs` | a script stops at its first failure | what follows would hide it |
//!
//! `tree.rs` reads the files, `tokens.rs` and `uses.rs` what a Rust file says of others.

mod circles;
mod crates;
mod layers;
mod scripts;
mod size;
mod tokens;
mod tree;
mod uses;
mod words;
