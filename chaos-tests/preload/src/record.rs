//! What stands in a journal: numbers of eight octets, little-endian, then names and bytes.
//!
//! ```text
//! kind 1  change   inode, offset, length, size before | the bytes there before
//! kind 4  cut      the same: the file ends at offset from now on
//! kind 2  names    (folder's inode, the inode there before or 0) twice | the first name, the second name
//! kind 3  sync     inode, covered
//! ```
//!
//! A record's place is the journal's length before it. A sync covers the changes of its inode at places below `covered`.

/// The head of a record: its kind, four numbers, the lengths of the two pieces that follow.
const HEAD: usize = 7 * 8;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A file's content or size changes.
    Change {
        /// The file.
        inode: u64,
        /// How.
        change: Change,
    },
    /// One or two names change at once.
    Names {
        /// The first.
        first: Name,
        /// A rename's target.
        second: Option<Name>,
    },
    /// A file, or a folder's names, reached the disk.
    Sync {
        /// Of what; 0: of everything.
        inode: u64,
        /// Changes before this place.
        covered: u64,
    },
}

/// A change of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether the file ends at `offset` from now on, rather than being written there.
    pub is_cut: bool,
    /// Where.
    pub offset: u64,
    /// How many octets change.
    pub len: u64,
    /// The file's size before.
    pub size: u64,
    /// What was there before: less than `len` where the file ended earlier.
    pub before: Vec<u8>,
}

/// A name in a folder, as it was before it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The folder's inode.
    pub folder: u64,
    /// The name.
    pub name: Vec<u8>,
    /// What it named; 0: nothing.
    pub before: u64,
}

impl Record {
    /// As octets.
    pub fn encode(&self) -> Vec<u8> {
        let empty: &[u8] = &[];
        let (numbers, one, other) = match self {
            Record::Change { inode, change } => {
                let kind = if change.is_cut { 4 } else { 1 };
                (
                    [kind, *inode, change.offset, change.len, change.size],
                    &change.before[..],
                    empty,
                )
            }
            Record::Names { first, second } => {
                let (folder, before, name) = match second {
                    Some(second) => (second.folder, second.before, &second.name[..]),
                    None => (0, 0, empty),
                };
                (
                    [2, first.folder, first.before, folder, before],
                    &first.name[..],
                    name,
                )
            }
            Record::Sync { inode, covered } => ([3, *inode, *covered, 0, 0], empty, empty),
        };
        let lengths = [one.len() as u64, other.len() as u64];
        let mut bytes = Vec::with_capacity(HEAD + one.len() + other.len());
        for number in numbers.into_iter().chain(lengths) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(one);
        bytes.extend_from_slice(other);
        bytes
    }

    /// The first record in `bytes` and its length; none where it is not whole, as after a kill in mid-write.
    pub fn decode(bytes: &[u8]) -> Option<(Record, usize)> {
        let head = bytes.get(..HEAD)?;
        let number = |at: usize| {
            let octets = head[at * 8..at * 8 + 8].try_into().unwrap_or_default();
            u64::from_le_bytes(octets)
        };
        let split = HEAD + usize::try_from(number(5)).ok()?;
        let end = split + usize::try_from(number(6)).ok()?;
        let (one, other) = (bytes.get(HEAD..split)?, bytes.get(split..end)?);
        let name = |folder, before, name: &[u8]| Name {
            folder,
            name: name.to_vec(),
            before,
        };
        let record = match number(0) {
            kind @ (1 | 4) => Record::Change {
                inode: number(1),
                change: Change {
                    is_cut: kind == 4,
                    offset: number(2),
                    len: number(3),
                    size: number(4),
                    before: one.to_vec(),
                },
            },
            2 => Record::Names {
                first: name(number(1), number(2), one),
                second: (number(3) != 0).then(|| name(number(3), number(4), other)),
            },
            3 => Record::Sync {
                inode: number(1),
                covered: number(2),
            },
            _ => return None,
        };
        Some((record, end))
    }
}
