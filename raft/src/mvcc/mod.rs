//! The multi-version key-value store itself (pure: no disk, clock, task or socket).
//!
//! One revision counts all write transactions. A key's history is the list of revisions that wrote it; what was
//! written lies elsewhere, by revision, and is asked for through [`Records`]: values stay on disk.
//!
//! ```text
//! revision 2  put a=1          a: created 2, modified 2, version 1
//! revision 3  put a=2, put b=1 a: created 2, modified 3, version 2      b: created 3, modified 3, version 1
//! revision 4  delete a         a: gone; read at 3 it is still there
//! revision 5  put a=9          a: created 5, modified 5, version 1
//! ```
//!
//! Always: (1) the same commands in the same order give the same answers and revisions on every member; (2) a
//! record, once written, never changes; (3) a refused command changes nothing; (4) what is read at a revision that
//! is not compacted never changes.

mod compaction;
mod database;
mod keyspace;
mod lease;
mod revision;
mod txn;
mod watch;

#[cfg(test)]
mod golden;

pub(crate) use database::{Changes, Database, Records};
pub(crate) use lease::{Clock, TICK_MS};
pub(crate) use revision::{Record, Revision};
pub(crate) use txn::{Overlay, check, only_reads};
pub(crate) use watch::{Notification, Scope, Watchers};
