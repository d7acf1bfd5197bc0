//! A job is cancelled: one that waits is over at once, one that runs is marked, which its owner's watch sees.

use std::time::Duration;

use crate::claim::{self, Outcome};
use crate::error::Error;
use crate::jobs::Jobs;
use crate::jobs::read::Found;
use crate::record::OpenState;
use crate::state::{self, End};

/// How often the record may change meanwhile.
const TRIES: usize = 20;
/// How long one try may take.
const WITHIN: Duration = Duration::from_secs(10);

impl Jobs {
    /// Has a job cancelled; one that has ended is as it is. Gives it as it is then.
    pub async fn cancel(&self, id: &str) -> Result<Found, Error> {
        for _ in 0..TRIES {
            let found = self.look(id).await?;
            let Found::Open(job) = &found else {
                return Ok(found);
            };
            let outcome = match job.open.state {
                OpenState::Queued => self.end(job, &End::cancelled(None)).await?,
                OpenState::Running if job.open.cancel => return Ok(found),
                OpenState::Running => {
                    let marked = state::marked(&job.open);
                    let answer = self.commit(&claim::replace(job, &marked), WITHIN).await?;
                    claim::outcome(job, &marked, &answer)
                }
            };
            if matches!(outcome, Outcome::Written(_)) {
                return self.look(id).await;
            }
        }
        Err(Error::NotPresent)
    }
}
