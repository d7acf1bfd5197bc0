//! A query becomes a job.

use std::time::Duration;

use crate::blobs::Naming;
use crate::claim::Job;
use crate::error::Error;
use crate::jobs::Jobs;
use crate::key;
use crate::record::Open;
use crate::submit::{self, Input, Outcome, Submission};

/// Open jobs that one agent owns of one workflow; more are refused until some have ended. A count over the cluster would
/// need a key that every submission writes.
pub const OPEN_MAX: usize = 100_000;
/// How long a submission is tried while the store decides nothing.
const WITHIN: Duration = Duration::from_secs(10);
/// How often it begins anew where the agent's life changed or a blob was collected meanwhile: as long as others take to go
/// on with a collection whose agent died, and more.
const TRIES: usize = 60;
/// What is rested before.
const REST: Duration = Duration::from_millis(100);

/// A query.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its workflow.
    pub workflow: String,
    /// By which a query that is sent again is the same job.
    pub key: Option<String>,
    /// What goes in.
    pub input: Input,
    /// The job whose input this is again.
    pub retry_of: Option<String>,
}

/// A job that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its ID.
    pub id: String,
    /// It was accepted before, with the same key and input.
    pub was_known: bool,
}

impl Jobs {
    /// Accepts a query: when this returns, a majority has it on disk.
    pub async fn submit(&self, request: Request) -> Result<Accepted, Error> {
        let Request {
            workflow,
            key: idempotency,
            input,
            retry_of,
        } = request;
        self.takes_jobs(&workflow).await?;
        let (wall, parts) = (key::milliseconds(self.clock().wall()), self.parts());
        let mut submission = Submission {
            id: key::new_id(Duration::from_millis(wall), parts.chance.bits()),
            open: Open {
                key: idempotency.map(|text| key::sha256(text.as_bytes())),
                retry_of,
                ..Open::accepted(None, wall, input.content())
            },
            workflow,
            input,
        };
        for _ in 0..TRIES {
            if let Some(owner) = self.owner() {
                submission.open.owner = Some(owner);
                let digest = submission.open.input.digest();
                let naming = Naming::of(self.store(), &*parts.holders, digest.as_slice()).await?;
                let answer = self
                    .commit(&submit::txn(&submission, owner, &naming), WITHIN)
                    .await?;
                match submit::outcome(&submission, &answer) {
                    Outcome::Accepted(revision) => return Ok(self.accepted(submission, revision)),
                    Outcome::Known(id) => return Ok(Accepted { id, was_known: true }),
                    Outcome::Conflict(id) => return Err(Error::Conflict(id)),
                    Outcome::NoWorkflow => return Err(Error::NoWorkflow(submission.workflow)),
                    Outcome::Again => {}
                }
            }
            self.clock().sleep(REST).await;
        }
        Err(Error::NotPresent)
    }

    fn accepted(&self, submission: Submission, revision: i64) -> Accepted {
        let Submission {
            id, workflow, open, ..
        } = submission;
        // One that an earlier sending made may be another's by now: its record's compare tells when it is to begin.
        self.queue().push(Job {
            id: id.clone(),
            workflow,
            open,
            revision,
        });
        self.0.queued.notify_one();
        Accepted { id, was_known: false }
    }

    /// Whether a workflow takes jobs here; asked before an input is taken, and again when it is there.
    pub async fn takes_jobs(&self, workflow: &str) -> Result<(), Error> {
        match self.parts().workflows.terms(workflow) {
            Some(terms) if !terms.is_running => return Err(Error::Stopped(workflow.to_owned())),
            Some(_) => {}
            // It may be so new that this agent has not read of it yet.
            None if self.store().get(key::workflow(workflow)).await?.is_some() => {}
            None => return Err(Error::NoWorkflow(workflow.to_owned())),
        }
        let open = self.owned(workflow);
        if open >= OPEN_MAX {
            return Err(Error::Full {
                workflow: workflow.to_owned(),
                open,
            });
        }
        Ok(())
    }
}
