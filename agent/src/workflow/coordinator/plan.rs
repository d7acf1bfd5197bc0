//! What a run is to do, decided before any node is asked: its stages, their executables, what they are given.

use pipes_protocol::descriptor::Descriptors;
use pipes_protocol::supply::Kind;

use crate::workflow::coordinator::request::Options;

/// A run's fixed part; attempts come and go.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The run's id.
    pub id: String,
    /// The line as typed.
    pub line: String,
    /// Node that coordinates.
    pub coordinator: u64,
    /// The stages in order.
    pub stages: Vec<Planned>,
    /// The caller's options.
    pub options: Options,
    /// What the caller has at 0, 1 and 2: the first stage has its 0, the last its 1, each its 2.
    pub descriptors: Descriptors,
}

/// One stage as planned.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The service as the line names it, without a digest, which is also `argv[0]`; and the version it runs.
    pub kind: Kind,
    /// Arguments after `argv[0]`.
    pub args: Vec<Vec<u8>>,
    /// Variables that the line sets before the name.
    pub env: Vec<(String, Vec<u8>)>,
}

impl Plan {
    /// What its stages' standard errors are kept under: the job that it is an attempt of, or the run itself.
    pub fn shown_as(&self) -> &str {
        self.options.job.as_deref().unwrap_or(&self.id)
    }

    /// A stage for people: `stage 2 (cat)`.
    pub fn name(&self, stage: usize) -> String {
        format!("stage {} ({})", stage + 1, self.stages[stage].kind.service)
    }
}
