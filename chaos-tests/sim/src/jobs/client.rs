//! Clients of jobs beside an agent: they submit, cancel, look, wait and list, and note what they were told.

use std::time::Duration;

use pipes_job::record::{Content, DoneState};
use pipes_job::{Error, Found, Input, Jobs, Question, Request, Which, key};
use pipes_sim_seam::Chance;
use tokio::time::sleep;

use crate::book::Shared;
use crate::fate;
use crate::jobs::seat::Seat;
use crate::ledger::Accepted;
use crate::life::alive;

/// Longest that a client waits for a job, in milliseconds.
const WAIT_MS_MAX: u64 = 3_000;
/// Jobs a page.
const PAGE: usize = 5;
/// Pages that a client reads.
const PAGES: usize = 4;

/// A client.
pub(super) struct Client {
    jobs: Jobs,
    shared: Shared,
    chance: Chance,
    name: String,
    pause_ms_max: u64,
    keys: u64,
    workflows: Vec<String>,
}

impl Client {
    /// A client of an agent.
    pub(super) fn new(seat: &Seat, jobs: Jobs, chance: Chance) -> Client {
        Client {
            jobs,
            shared: seat.shared.clone(),
            chance,
            name: seat.name.clone(),
            pause_ms_max: seat.plan.pause_ms_max,
            keys: seat.plan.keys,
            workflows: seat.plan.terms.keys().cloned().collect(),
        }
    }

    /// Asks and asks.
    pub(super) async fn run(mut self) {
        loop {
            let pause = self.chance.between(1, self.pause_ms_max);
            sleep(Duration::from_millis(pause)).await;
            if self.shared.lock().is_calm {
                std::future::pending::<()>().await;
            }
            match self.chance.below(100) {
                0..60 => self.submit().await,
                60..74 => self.cancel().await,
                74..86 => self.look().await,
                86..94 => self.wait().await,
                _ => self.list().await,
            }
        }
    }

    async fn submit(&mut self) {
        let workflow = self.workflows[self.chance.below(self.workflows.len() as u64) as usize].clone();
        let (idempotency, input) = match self.chance.is(300) {
            // Few keys, mostly with one input, sometimes with another.
            true => {
                let number = self.chance.below(self.keys);
                let input = format!("keyed {number} {}", self.chance.is(100));
                (Some(format!("key {number}")), input)
            }
            false => (None, format!("input {:x}", self.chance.any())),
        };
        let bytes = input.into_bytes();
        let given = match self.chance.is(150) {
            true => Input::Blob(self.keep(&bytes)),
            false => Input::Small(bytes.clone()),
        };
        let request = Request {
            workflow: workflow.clone(),
            key: idempotency.clone(),
            input: given,
            retry_of: None,
        };
        let answer = alive(&self.name, self.jobs.submit(request)).await;
        let mut history = self.shared.lock();
        match answer {
            Ok(accepted) => {
                history.note(format!(
                    "{} is told {} of {workflow}, known {}",
                    self.name, accepted.id, accepted.was_known
                ));
                history.count(match accepted.was_known {
                    true => "jobs known by their key",
                    false => "jobs accepted",
                });
                let told = Accepted {
                    workflow,
                    input: bytes,
                };
                history.ledger.accepted.insert(accepted.id.clone(), told);
                history.check(|checks, history| checks.jobs.accepted(&accepted.id, history));
            }
            Err(Error::Conflict(id)) => {
                history.count("jobs in conflict");
                history.check(|checks, history| checks.jobs.conflicts(&id, &bytes, history));
            }
            Err(_) => history.count("jobs refused"),
        }
    }

    fn keep(&self, bytes: &[u8]) -> Content {
        let sha256 = key::sha256(bytes);
        let mut history = self.shared.lock();
        history.ledger.blobs.insert(sha256.clone(), bytes.to_vec());
        Content {
            bytes: bytes.len() as u64,
            sha256,
            blob: true,
        }
    }

    /// One of the jobs that anybody was told of, of late ones more often.
    fn some(&mut self) -> Option<String> {
        let history = self.shared.lock();
        let count = history.ledger.accepted.len() as u64;
        let back = self.chance.scaled(1, count.max(1)).min(count);
        let at = count.checked_sub(back)?;
        history.ledger.accepted.keys().nth(at as usize).cloned()
    }

    async fn cancel(&mut self) {
        let Some(id) = self.some() else { return };
        let answer = alive(&self.name, self.jobs.cancel(&id)).await;
        let mut history = self.shared.lock();
        match answer {
            Ok(Found::Open(job)) => {
                if !job.open.cancel {
                    history.fail(format!("{id} was to be cancelled, and is left as it was"));
                }
                history.note(format!("{} is told that {id} will be cancelled", self.name));
                history.count("running jobs cancelled");
                history.ledger.cancelled.insert(id);
            }
            Ok(Found::Done { done, .. }) if done.state == DoneState::Cancelled => {
                history.count("jobs found cancelled");
                history.ledger.cancelled.insert(id);
            }
            Ok(Found::Done { .. }) => history.count("jobs cancelled too late"),
            Err(error) => self.not_found(&id, &error, &mut history),
        }
    }

    fn not_found(&self, id: &str, error: &Error, history: &mut crate::book::Book) {
        history.count("questions not answered");
        if let Error::NoJob(_) = error {
            history.check(|checks, history| checks.jobs.is_forgotten(id, history));
        }
    }

    async fn look(&mut self) {
        let Some(id) = self.some() else { return };
        let answer = alive(&self.name, self.jobs.look(&id)).await;
        self.told(&id, answer).await;
    }

    async fn wait(&mut self) {
        let Some(id) = self.some() else { return };
        let longest = Duration::from_millis(self.chance.scaled(1, WAIT_MS_MAX));
        let answer = alive(&self.name, self.jobs.wait(&id, longest)).await;
        self.told(&id, answer).await;
    }

    async fn told(&mut self, id: &str, answer: Result<Found, Error>) {
        let found = match answer {
            Ok(found) => found,
            Err(error) => return self.not_found(id, &error, &mut self.shared.lock()),
        };
        self.shared.lock().count("jobs looked at");
        let Found::Done { done, .. } = found else { return };
        let Some(content) = done.result.as_ref().filter(|content| !content.blob) else {
            return;
        };
        let bytes = alive(&self.name, self.jobs.result(id, content)).await;
        let mut history = self.shared.lock();
        let input = history.ledger.accepted.get(id).map(|told| told.input.clone());
        let expected = fate::output(&input.unwrap_or_default(), done.status.unwrap_or(0));
        // Where it has been forgotten meanwhile there is none.
        if let Ok(Some(bytes)) = bytes
            && bytes != expected
        {
            history.fail(format!("{id} gives {bytes:?}, and it should be {expected:?}"));
        }
    }

    async fn list(&mut self) {
        let at = self.chance.below(self.workflows.len() as u64 + 1) as usize;
        let mut question = Question {
            workflow: self.workflows.get(at).cloned(),
            which: Which::All,
            limit: PAGE,
            after: None,
        };
        let mut last: Option<(String, String)> = None;
        for _ in 0..PAGES {
            let Ok(page) = alive(&self.name, self.jobs.list(&question)).await else {
                return;
            };
            let mut history = self.shared.lock();
            history.count("pages read");
            if page.jobs.len() > PAGE {
                history.fail(format!("a page has {} jobs", page.jobs.len()));
            }
            for job in &page.jobs {
                let place = (job.workflow().to_owned(), job.id().to_owned());
                if last.as_ref().is_some_and(|last| *last >= place) {
                    history.fail(format!("{place:?} is listed after {last:?}"));
                }
                last = Some(place);
            }
            match page.next {
                Some(next) => question.after = Some(next),
                None => return,
            }
        }
    }
}
