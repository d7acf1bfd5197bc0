//! Blobs: large bytes, known by their digest.
//!
//! ```text
//! upload -> file beside, fsynced, renamed, folder fsynced -> the same at a majority of the voters -> finish() returns
//! ensure(digest) -> here already | fetched from a peer, checked by its digest -> path
//! ```
//!
//! Always: (1) a file under its digest's name is whole and fsynced, and nothing is run or sent that was not read against its
//! digest since it was last written; (2) a
//! digest that `finish` gave is on a majority of the voters; (3) several that want one digest wait for one fetch; (4) voters fetch
//! beside it all that keys name (`/pipes/blobs/DIGEST/by/KEY`), others only cache; (5) nothing is answered, kept or deleted of a
//! digest while something else is (`holder.rs`).
//! Not here: who names a blob, and the collection of what nothing names, which is `pipes_job::blobs`'s; `holders.rs` is what
//! that sees of this.

mod digest;
mod draft;
mod error;
mod holder;
mod holders;
mod promised;
mod serve;
mod store;
mod transfer;
mod upkeep;

pub use digest::Digest;
pub use error::Error;
pub use holder::Holder;
pub use serve::serve;
pub use store::Store;
pub use transfer::{Blobs, Group, Members, Upload};
pub use upkeep::tend;
