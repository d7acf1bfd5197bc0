//! What a file is, told by its first bytes alone, as the kernel tells it.

mod elf;
mod script;

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many of a file's first bytes decide: as many as the kernel looks at (BINPRM_BUF_SIZE).
pub const HEAD_LENGTH: usize = 256;

/// What a service is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An ELF binary.
    Elf,
    /// An executable text with a `#!` line.
    Script,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Kind::Elf => "elf",
            Kind::Script => "script",
        })
    }
}

/// Why a file cannot become a service; its message follows the file's path and a colon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotExecutable(String);

impl Kind {
    /// Tells the kind by the file's first [`HEAD_LENGTH`] bytes, or all where it has fewer.
    pub fn of(head: &[u8]) -> Result<Kind, NotExecutable> {
        if head.starts_with(elf::MAGIC) {
            elf::check(head).map(|()| Kind::Elf)
        } else if head.starts_with(script::MAGIC) {
            script::check(head).map(|()| Kind::Script)
        } else if head.is_empty() {
            Err(NotExecutable("the file is empty".into()))
        } else {
            let why = "it is neither an ELF binary nor a text that begins with '#!'; a script needs a first line such as #!/bin/sh";
            Err(NotExecutable(why.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_is_refused_with_what_to_do() {
        assert_eq!(Kind::of(b"#!/bin/sh\necho"), Ok(Kind::Script));
        assert!(Kind::of(b"").unwrap_err().to_string().contains("empty"));
        assert!(
            Kind::of(b"echo hello\n")
                .unwrap_err()
                .to_string()
                .contains("#!/bin/sh")
        );
        assert!(Kind::of(b"\x7fEL").is_err());
    }

    #[test]
    fn kinds_are_written_as_listings_show_them() {
        assert_eq!(serde_json::to_string(&Kind::Elf).unwrap(), "\"elf\"");
        assert_eq!(Kind::Script.to_string(), "script");
    }
}
