//! Services: executables that were built, each known by a name.
//!
//! ```text
//! bytes -> kind (elf, script) -> blob sha256:ab.. -> /pipes/services/cat            the newest version
//!                                                    /pipes/versions/cat/sha256:ab..  every version
//!                                                    /pipes/blobs/sha256:ab../by/versions/cat/sha256:ab..
//! ```
//!
//! Always: (1) the three keys of a version are written together, so a blob that a service needs has a name; (2) only what
//! the kernel can execute becomes a service; (3) a name is a plain file's name and never reaches out of its key.
//! Not here: the bytes (`blob`).

mod catalog;
mod kind;
mod name;
mod nearest;
mod record;

pub use catalog::{Error, find, find_all, list, names, put, remove, versions};
pub use kind::{HEAD_LENGTH, Kind, NotExecutable};
pub use name::{BadName, check_name, split};
pub use nearest::nearest;
pub use record::Record;
