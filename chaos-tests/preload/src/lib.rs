//! Stands between a process and libc (`LD_PRELOAD`), writes down what a power loss would take, and makes disks fail.
//!
//! ```text
//! LD_PRELOAD=libpipes_preload.so  PIPES_PRELOAD_NODES=/c/nodes  PIPES_PRELOAD_JOURNALS=/c/journals  pipes-agent ...
//!
//! /c/nodes/n1/raft/log/0001.log     written, renamed, removed as ever, but no sync reaches the disk
//! /c/journals/n1/journal            before each change what was there before it; after each sync what it covers
//! /c/journals/n1/kept/8123          what was removed or replaced, by its inode, so that it can come back
//! /c/journals/n1/faults             what is to fail or to take long from now on (faults.rs)
//! ```
//!
//! A killed process loses nothing that it wrote, since the kernel has it: so after the kill, `power_loss` of the tests
//! takes the journal and puts back what was not synced, all of it or a part.
//!
//! | file | knows |
//! |---|---|
//! | `record.rs` | what stands in a journal; the tests read it by the same file |
//! | `recorder.rs` | which files are recorded, and where |
//! | `names.rs` | creations, renames, removals: the functions that change a folder |
//! | `contents.rs` | the functions that read, write, cut and sync a file |
//! | `room.rs` | how much room a disk says that it has |
//! | `faults.rs` | what fails, and how long a sync takes |
//! | `system.rs` | the kernel itself, past the functions that are stood in for |
//!
//! Always: (1) a record is in the journal before the change is made, and both under one lock, so that the journal's
//! order is that of the changes; (2) a file is known by its inode, so that duplicated and inherited descriptors are
//! too; no inode is given away a second time while the journal lives; (3) a sync covers what was written before it
//! began; `sync_file_range` covers nothing, as its manual says; (4) only the program that `PIPES_PRELOAD_PROGRAM` names
//! is recorded, each where there is none.
//!
//! Not here: permissions, times, symbolic links, which a power loss leaves as they are; mapped files, which are refused.

mod contents;
mod faults;
mod names;
pub mod record;
mod recorder;
mod room;
mod system;
