//! Which blobs there are to be, decided by keys: who names one, who collects what nobody names.
//!
//! A blob is large bytes, known by their digest D. They lie on the voters' disks; the store has what is known of them.
//!
//! | what | how |
//! |---|---|
//! | a key names D | it is written together with `blobs/D/by/KEY`, and removed together with it |
//! | node 2 uses D | `blobs/D/by/presence/2`, under the lease of that node's life (`uses.rs`) |
//! | to name D | read the generation of D's group, ask the holders, write if that is as it was and `gone` is absent (`naming.rs`) |
//! | to collect D | if nothing is under `by/`: write `gone` and the generation; holders delete; remove `gone`, write the generation (`collect.rs`) |
//! | a holder | does one thing at a time for D, and reads `gone` as part of a deletion (`holder.rs`) |
//! | a voter | fetches what it lacks of all that is named (`keeper.rs`) |
//!
//! Always: (1) what is named is on a majority of the voters; (2) what nothing names is on no disk for long: a minute after its
//! last name went, and five after it was put and never named; (3) whoever dies in between leaves nothing that
//! another does not finish; (4) where nothing changes nothing is written.
//!
//! # What it costs
//!
//! A name that goes is told by one watch, and is one look at one digest at one node, chosen by rendezvous hashing. That
//! no name was missed (of an agent that was away, of one that died between putting and naming) is found by a walk: at
//! the start, after a watch that was lost, and every ten minutes. It lists the names here, without asking anybody, in
//! pages of 1,000, beside the files of the folder, both in the order of digests and a sixteenth of them at a time: with
//! 100,000 blobs some 6,000 digests are in memory at once, and all of it is some 100 reads and 16 looks at the folder.

mod agenda;
mod collect;
mod holder;
mod keeper;
mod naming;
mod uses;

pub use holder::{Alone, Gone, Holder};
pub use keeper::{Keeper, Parts};
pub use naming::Naming;
pub use uses::{Used, Uses};

#[cfg(test)]
mod tests;
