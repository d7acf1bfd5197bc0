//! When nothing is wrong any more and every job is over, each agent says the same of them: what the store holds.

use std::time::Duration;

use pipes_job::{Error, Found, Jobs, Question, Which};
use tokio::time::sleep;

use crate::jobs::seat::Seat;
use crate::life::alive;

/// The rest between two looks whether it is time, and after an error.
const REST: Duration = Duration::from_millis(200);
/// Jobs a page: small, so that a listing has many.
const PAGE: usize = 7;

impl Seat {
    /// Waits for the end, and until the agent holds no job; then looks once.
    pub(super) async fn look_at_end(&self, jobs: &Jobs) {
        // One that was cancelled elsewhere while it rested here is let go of when it is due.
        while !self.shared.lock().is_quiet || self.holds_any(jobs) {
            sleep(REST).await;
        }
        let listed = loop {
            match self.list(jobs).await {
                Ok(listed) => break listed,
                Err(_) => sleep(REST).await,
            }
        };
        let mut history = self.shared.lock();
        history.check(|checks, history| checks.jobs.listed(&self.name, &listed, history));
        history.ledger.looked.insert(self.host);
    }

    fn holds_any(&self, jobs: &Jobs) -> bool {
        self.plan.terms.keys().any(|name| jobs.owned(name) > 0)
    }

    async fn list(&self, jobs: &Jobs) -> Result<Vec<Found>, Error> {
        let mut question = Question {
            workflow: None,
            which: Which::All,
            limit: PAGE,
            after: None,
        };
        let mut listed = Vec::new();
        loop {
            let page = alive(&self.name, jobs.list(&question)).await?;
            listed.extend(page.jobs);
            match page.next {
                Some(next) => question.after = Some(next),
                None => return Ok(listed),
            }
        }
    }
}
