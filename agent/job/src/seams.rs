//! What jobs need of the world around them: runs, holders of blobs, clocks, chance, and what workflows say. An agent gives
//! the real ones; a simulation gives its own.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::record::Content;
use crate::state::{Terms, Verdict};

/// What an attempt is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The job's ID.
    pub job: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Its workflow.
    pub workflow: String,
    /// Which of the workflow's definitions.
    pub definition: u64,
    /// The input, where it is small; else `content` is a blob.
    pub input: Option<Vec<u8>>,
    /// What the input is.
    pub content: Content,
    /// What is left of the job's time.
    pub timeout: Option<Duration>,
    /// It runs with no other job on its node: all its stages are to be here.
    pub is_alone: bool,
}

/// What is wanted of an attempt that is under way; only ever raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// That it runs.
    Run,
    /// That it ends: SIGTERM, 5 s later SIGKILL.
    Terminate,
}

/// What an attempt made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Few bytes.
    Small(Vec<u8>),
    /// A blob that a majority of the voters has.
    Blob(Content),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What it came to.
    pub verdict: Verdict,
    /// Its stages, as the run's answer has them.
    pub stages: serde_json::Value,
    /// What the last stage wrote, where all of it is there.
    pub output: Option<Output>,
}

/// Runs attempts.
#[async_trait]
pub trait Runs: Send + Sync + 'static {
    /// Runs one to its end, as `wanted` says. Dropped, it is killed.
    async fn run(&self, order: Order, wanted: watch::Receiver<Wanted>) -> Ended;
}

/// Who keeps blobs: this node and the others; `digest` as `sha256:HEX`. Each of them is alone with a digest while it answers
/// or deletes ([`crate::blobs::Holder`]).
#[async_trait]
pub trait Holders: Send + Sync + 'static {
    /// Whether a majority of the voters has it on disk. Who asks is about to name it.
    async fn has(&self, digest: &str) -> bool;
    /// Has a majority of the voters have it, of what lies here; false where that cannot be. This node, too, answers for itself
    /// no earlier than it is asked.
    async fn sync(&self, digest: &str) -> bool;
    /// Has it lie here, of whoever has it; false where nobody gave it.
    async fn fetch(&self, digest: &str) -> bool;
    /// Whether somebody who can be reached expects it to be named.
    async fn is_awaited(&self, digest: &str) -> bool;
    /// Has all that can be reached delete it, if their rule lets them.
    async fn delete(&self, digest: &str);
}

/// The blobs on this node's own disk.
#[async_trait]
pub trait Disk: Send + Sync + 'static {
    /// Whether this node is to have all that is named: a voter.
    fn keeps_all(&self) -> bool;
    /// Whether it lies here.
    fn is_here(&self, digest: &str) -> bool;
    /// Those that lie here and whose digests begin so, in order.
    async fn list(&self, digests: &str) -> Vec<String>;
}

/// What time it is.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Since any beginning; never goes back.
    fn monotonic(&self) -> Duration;
    /// For people.
    fn wall(&self) -> SystemTime;
    /// What ages are counted by, the same at all agents, in milliseconds.
    fn age_ms(&self) -> u64;
    /// Lets time pass.
    async fn sleep(&self, duration: Duration);
}

/// Chance: IDs, and rests that are not in step.
pub trait Chance: Send + Sync + 'static {
    /// Random bits.
    fn bits(&self) -> u128;
}

/// What the workflows say of their jobs.
pub trait Workflows: Send + Sync + 'static {
    /// Of one; `None`: there is none of this name.
    fn terms(&self, workflow: &str) -> Option<Terms>;
    /// Their changes from now on.
    fn changes(&self) -> Box<dyn Changes>;
}

/// Changes of what workflows say.
#[async_trait]
pub trait Changes: Send {
    /// Returns when something may have changed since the last time; the first time perhaps at once. Cancel safe.
    async fn next(&mut self);
}
