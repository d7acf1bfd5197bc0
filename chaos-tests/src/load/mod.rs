//! Clients of a cluster under faults: they ask whichever agent answers, and note what they were told.
//!
//! | part | clients that |
//! |---|---|
//! | `jobs.rs` | submit queries over HTTP and WAMP |
//! | `keys.rs` | put keys once, and read and write a few registers |

pub mod jobs;
pub mod keys;
