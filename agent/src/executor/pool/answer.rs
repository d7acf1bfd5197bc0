//! What coordinators ask of a node's pool, and what it answers.

/// A coordinator's request for slots: all of them, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The run they are for.
    pub run: String,
    /// The node that coordinates it.
    pub coordinator: u64,
    /// Which of the run's attempts asks, from 1: what is said of it may come after the next has asked.
    pub attempt: u64,
    /// Its stages on this node.
    pub stages: Vec<Wanted>,
    /// Rather wait in order than be told full.
    pub hold: bool,
}

/// One stage that wants a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its number in the line, from 1.
    pub stage: u32,
    /// The service's name.
    pub service: String,
    /// The version: `sha256:HEX`.
    pub digest: String,
    /// A replica of its own, that serves nobody before or after.
    pub fresh: bool,
}

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

/// Why slots were not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// No slot is free; whoever asked is told when one may be.
    #[error("no slot is free")]
    Full,
    /// The executable's own fault: it fails everywhere.
    #[error("stage {stage} cannot be started: {why}")]
    CannotStart {
        /// Its number in the line.
        stage: u32,
        /// The system's reason.
        why: String,
    },
    /// This node's; another may do it.
    #[error("{0}")]
    Unavailable(String),
}

impl PrepareError {
    /// Its URI in WAMP.
    pub fn uri(&self) -> &'static str {
        match self {
            PrepareError::Full => "pipes.error.full",
            PrepareError::CannotStart { .. } => "pipes.error.cannot_start",
            PrepareError::Unavailable(_) => "pipes.error.unavailable",
        }
    }
}

/// A replica to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its name, which no other ever has on this node.
    pub replica: String,
    /// The service it serves.
    pub service: String,
    /// The version: `sha256:HEX`.
    pub digest: String,
    /// Invocations at once.
    pub slots: u32,
    /// How far a window may grow, in bytes.
    pub window: u64,
}
