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
//! beside it all that keys name (`/pipes/blobs/DIGEST/by/KEY`), others only cache.
//! Not here: collecting what nothing names, which goes through the store and comes with what removes names.

mod digest;
mod error;
mod serve;
mod store;
mod transfer;
mod upkeep;

pub use digest::Digest;
pub use error::Error;
pub use serve::serve;
pub use store::Store;
pub use transfer::{Blobs, Group, Members, Upload};
pub use upkeep::tend;
