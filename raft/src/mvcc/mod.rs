//! etcd's model: a multi-version key-value store (pure: no disk, clock, task or socket).
//!
//! One counter, the *revision*, counts all write transactions of the store; it begins at 1. Each write of a key,
//! deletion included, is a *record*, known by its revision and, among those of one transaction, its place: 3.1 is the
//! second of revision 3. Records never change; a key is the list of its records. Its *create revision* and its
//! *version* (how often it was written since) begin anew after a deletion; its *mod revision* is that of the record.
//!
//! ```text
//! revision  transaction         records             a: value, create, mod, version     b: value, create, mod, version
//! 2         put a=1             2.0 a=1             1  2  2  1                         -
//! 3         put a=2, put b=1    3.0 a=2  3.1 b=1    2  2  3  2                         1  3  3  1
//! 4         delete a            4.0 a deleted       -                                  1  3  3  1
//! 5         put a=9             5.0 a=9             9  5  5  1                         1  3  3  1
//! ```
//!
//! | asked | answered |
//! |---|---|
//! | range a at 3 | a=2; at 4: nothing; now: a=9 |
//! | if a has create revision 0 (is not there), put it | refused now, done at 4: a lock, a first writer |
//! | watch a from 3 | put a=2, delete a, put a=9: each record once, in order |
//! | compact 4 | 2.0 and 3.0 can go: no read from 4 on needs them, and earlier ones are refused from now on |
//! | expire a lease that holds b | a transaction as any: revision 6, 6.0 b deleted |
//!
//! By file: `keyspace.rs` is the index, from each key to the revisions of its records; `txn.rs` does a
//! transaction, after `decide.rs` and `plan.rs` have found out what it comes to, within what it may read (`reads.rs`); `lease.rs`, `compaction.rs` and `watch.rs` do what their names say; `database.rs` holds it together, and
//! `digest.rs` sums up what was applied, so that members can see that it was the same; `written.rs` counts it.
//! What was written (`revision.rs`) lies elsewhere and is asked for through [`Records`]: values stay on disk.
//!
//! Always: (1) the same commands in the same order give the same answers and revisions on every member; (2) a
//! record, once written, never changes; (3) a refused command changes nothing; (4) what is read at a revision that
//! is not compacted never changes.
//!
//! Not here: where records lie (`state/`), and the order of the commands (Raft).

mod compaction;
mod database;
mod decide;
mod digest;
mod keyspace;
mod lease;
mod plan;
mod reads;
mod revision;
mod txn;
mod watch;
mod written;

#[cfg(test)]
mod golden;

pub(crate) use database::{Changes, Database, Records, previous};
pub(crate) use digest::{CHAIN, ContentDigest, Digest, Trace};
pub(crate) use lease::{Clock, TICK_MS};
pub(crate) use reads::Reads;
pub(crate) use revision::{Record, Revision};
pub(crate) use txn::{Overlay, check, only_reads};
pub(crate) use watch::{Notification, Scope, Watchers};
