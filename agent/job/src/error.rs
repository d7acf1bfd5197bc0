//! Why something cannot be done with a job, as whoever asked hears it.

/// Reasons.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The caller's: no such job, or it has gone.
    #[error("there is no job {0}; it may have been forgotten, as jobs are some time after their end")]
    NoJob(String),
    /// The caller's: no such workflow.
    #[error("there is no workflow {0}")]
    NoWorkflow(String),
    /// The operators': it takes nothing up.
    #[error("workflow {0} is stopped; start it with: pipes start {0}")]
    Stopped(String),
    /// The caller's: the same key came with other input.
    #[error("the key was used with other input, for job {0}; use another key")]
    Conflict(String),
    /// Nobody's: it may be tried later.
    #[error("workflow {workflow} has {open} unfinished jobs at this server, and takes no more for now")]
    Full {
        /// The workflow.
        workflow: String,
        /// Jobs that this agent owns.
        open: usize,
    },
    /// Nobody's: it was collected meanwhile; may be tried again.
    #[error("no majority of the servers has {0} any more")]
    BlobMissing(String),
    /// This agent has lost its place among the others; may be tried again.
    #[error("this server is not present in the cluster just now; try again")]
    NotPresent,
    /// The store's.
    #[error("{}", .0.to_people())]
    Store(#[from] pipes_raft::Error),
}
