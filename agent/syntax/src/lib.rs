//! The workflow's line: from text to stages, as POSIX `sh` reads words.
//!
//! ```text
//! LANG=C sort -t '|' "a b" c\ d | wc -l
//! stage 1   assignments LANG=C   name sort   args -t  |  a b  c d
//! stage 2                        name wc     args -l
//! ```
//!
//! Quoting, escapes, leading assignments and joined lines are those of POSIX.1-2017, Shell Command Language, 2.2, 2.3 and
//! 2.9.1. What a shell would expand, redirect or run besides one pipeline is refused, never passed on unexpanded; `*`,
//! `?` and `[` stay as they are, as in a shell where no file matches.
//!
//! Always: (1) a line is read whole or refused whole; (2) a refusal has the byte it is about and says what to do; (3) a
//! line that is read means in `sh` the same words.
//!
//! `line` reads stages, `stage` the words of one, `word` what a word is made of, `quoting` its quotes, `file` the files
//! of `-f`. Pure; the agent and the CLI read a line by this code alone.

mod cursor;
mod error;
mod file;
mod line;
mod quoting;
mod stage;
mod word;

pub use error::Error;
pub use file::{line_of_file, parse_file};
pub use line::{Line, parse};
pub use quoting::quote;
pub use stage::Stage;

/// Longest line, in bytes: what `sh -c` itself takes as one argument (MAX_ARG_STRLEN of Linux). Beyond it the line is
/// refused.
pub const LINE_LENGTH_MAX: usize = 128 << 10;

/// Most stages in a line: their services are looked up in one transaction of the store, which takes as many operations.
pub const STAGES_MAX: usize = 128;

/// Fewest digits that name an older version, so that a slip of the finger does not.
pub const DIGEST_DIGITS_MIN: usize = 8;

#[cfg(test)]
mod tests;
