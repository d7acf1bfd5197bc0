//! What the pool answers to a prepare.

use pipes_protocol::reservation::PrepareError;

/// A slot that a stage got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The stage's number in the line.
    pub stage: u32,
    /// Its replica.
    pub replica: String,
    /// How far the window of its stdin may grow, in bytes.
    pub window: u64,
}

/// All slots of a run on this node, in replicas that can be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// A slot for each stage that was asked for.
    pub places: Vec<Place>,
}

/// What a prepare is answered; after `Ready` or `Failed` nothing more comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It waits in order.
    Waiting,
    /// The slots are its own; replicas may still have to start.
    Reserved,
    /// All replicas can be called.
    Ready(Prepared),
    /// It has nothing here.
    Failed(PrepareError),
}
