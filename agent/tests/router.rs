//! Shards over real sockets: one alone, and two in this process with a TLS link between them.

mod links;
mod onward;
mod rights;
mod shard;
mod shards;
mod storm;
