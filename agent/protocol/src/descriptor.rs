//! What a caller has at 0, 1 and 2, as far as its stages are to notice it.
//!
//! In a shell a stage has its caller's own descriptors, and meets their faults at its own reads and writes. Here a pipe
//! stands in their place, which has none; where the caller's cannot be used at all, its stages have the like of it instead.

use serde::{Deserialize, Serialize};

/// What stands at one of 0, 1 and 2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&str", try_from = "String")]
pub enum Descriptor {
    /// A pipe from the caller or to it.
    #[default]
    Pipe,
    /// Nothing: it is closed, and its use fails with EBADF.
    Closed,
    /// What is not open that way: reads of 0, writes to 1 and 2 fail with EBADF.
    Wrong,
    /// A directory, as 0: reads fail with EISDIR.
    Folder,
    /// A full device, as 1 or 2: writes fail with ENOSPC.
    Full,
}

/// At 0, 1 and 2.
pub type Descriptors = [Descriptor; 3];

impl Descriptor {
    const ALL: [(&'static str, Descriptor); 5] = [
        ("pipe", Descriptor::Pipe),
        ("closed", Descriptor::Closed),
        ("wrong", Descriptor::Wrong),
        ("folder", Descriptor::Folder),
        ("full", Descriptor::Full),
    ];

    /// As it travels.
    pub fn name(self) -> &'static str {
        let known = Descriptor::ALL.iter().find(|(_, kind)| *kind == self);
        known.map_or("pipe", |(name, _)| name)
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Descriptor> {
        let known = Descriptor::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, kind)| *kind)
    }
}

impl From<Descriptor> for &str {
    fn from(descriptor: Descriptor) -> &'static str {
        descriptor.name()
    }
}

impl TryFrom<String> for Descriptor {
    type Error = String;

    fn try_from(name: String) -> Result<Descriptor, String> {
        Descriptor::parse(&name).ok_or_else(|| format!("{name} is not known to stand at 0, 1 or 2"))
    }
}

/// Whether all three are pipes, which needs no word.
pub fn are_pipes(descriptors: &Descriptors) -> bool {
    *descriptors == Descriptors::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_known_by_its_name() {
        for (name, kind) in Descriptor::ALL {
            assert_eq!((kind.name(), Descriptor::parse(name)), (name, Some(kind)));
        }
        assert_eq!(Descriptor::parse("socket"), None);
    }
}
