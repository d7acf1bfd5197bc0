//! One attempt of a job, from its record to what became of it.
//!
//! ```text
//! begin: the record says running, attempt n     lost race: somebody else has it, or it was cancelled
//! run, and watch the job's key                  another's now: killed at once. Cancelled: SIGTERM, then SIGKILL
//! it ended: finish, or queue it again           whose record changed meanwhile is read again; another's is let go
//! ```

use std::pin::pin;
use std::time::Duration;

use pipes_raft::{Compare, Consistency, EventKind, Range, Txn, Watch};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::blobs::Naming;
use crate::claim::{self, Job, Outcome};
use crate::error::Error;
use crate::finish::{self, Finished, Times};
use crate::jobs::Jobs;
use crate::key;
use crate::record::{Done, Open, OpenState, Owner};
use crate::seams::{Ended, Order, Output, Wanted};
use crate::state::{self, End, Next, Terms, Verdict};

/// How long one transaction is tried before the attempt looks again whether it is to go on.
const WITHIN: Duration = Duration::from_secs(10);
/// The rest where the store decides nothing.
const REST: Duration = Duration::from_secs(1);
/// How often the record of a job that another has may change while a loss is taken back.
const ABSOLVED_TRIES: usize = 4;
/// A result whose holders lost it before it was named is asked for so often.
const NAMINGS_MAX: usize = 8;

/// What a watch of the job's key told.
enum Seen {
    /// The record is another, and still this attempt's.
    Changed(Box<Job>),
    /// It is another attempt's, another owner's, or gone.
    NotOurs,
}

impl Jobs {
    /// Runs the next attempt of a job; returns when the queue knows what became of it.
    pub(super) async fn attempt(&self, job: Job) {
        let number = job.open.attempt + 1;
        let (workflow, id) = (job.workflow.clone(), job.id.clone());
        let next = self.attempt_of(job).await;
        let now = self.clock().monotonic();
        let mut queue = self.queue();
        queue.ended(&workflow, &id, number);
        match next {
            Some((job, rest)) if rest.is_zero() => queue.push(job),
            Some((job, rest)) => queue.push_later(job, now + rest),
            None => {}
        }
    }

    /// The job and the rest before its next attempt, where there is to be one here.
    async fn attempt_of(&self, job: Job) -> Option<(Job, Duration)> {
        let owner = job.open.owner?;
        let Some(terms) = self.parts().workflows.terms(&job.workflow) else {
            return Some((job, REST));
        };
        let mut job = match self.begin(&job, owner, &terms).await {
            Ok(began) => began,
            Err(instead) => return instead.map(|instead| *instead),
        };
        self.queue().note(&job);
        let begun = self.clock().monotonic();
        let Some(ended) = self.run_attempt(&mut job, &terms).await else {
            // It was killed before.
            self.absolve(&job).await;
            return None;
        };
        let took = self.clock().monotonic().saturating_sub(begun);
        if let Verdict::Lost { why, .. } = &ended.verdict {
            info!(
                job = job.id,
                attempt = job.open.attempt,
                why,
                "an attempt was lost"
            );
        }
        self.settle(job, ended, took, &terms).await
    }

    /// Records that the attempt begins; `Err`: it does not, and what is to be done with the job instead.
    async fn begin(
        &self,
        job: &Job,
        owner: Owner,
        terms: &Terms,
    ) -> Result<Job, Option<Box<(Job, Duration)>>> {
        let next = Open {
            began: Some(key::milliseconds(self.clock().wall())),
            ..state::begun(&job.open, owner, terms.definition, self.clock().age_ms())
        };
        let txn = claim::begin(job, &next, owner);
        let is_impatient = crate::mutant!(BegunUnrecorded);
        let within = if is_impatient { Duration::ZERO } else { WITHIN };
        let answer = match self.commit(&txn, within).await {
            Ok(answer) => answer,
            Err(_) if is_impatient => {
                return Ok(Job {
                    open: next,
                    ..job.clone()
                });
            }
            Err(error) => {
                debug!(job = job.id, %error, "an attempt cannot be recorded");
                return Err(Some(Box::new((job.clone(), REST))));
            }
        };
        match claim::outcome(job, &next, &answer) {
            Outcome::Written(revision) => Ok(Job {
                open: next,
                revision,
                ..job.clone()
            }),
            // By a sending that was given up before its answer came: nothing has begun for it.
            Outcome::Found(found) if is_same_attempt(&found.open, &next) => Ok(*found),
            // As it was: this agent's life is over, and the job is whoever takes it.
            Outcome::Found(found) if found.revision == job.revision => Err(None),
            Outcome::Found(found) if is_waiting_for(&found.open, owner) => {
                Err(Some(Box::new((*found, Duration::ZERO))))
            }
            Outcome::Found(_) | Outcome::Gone => Err(None),
        }
    }

    /// Runs it to its end; `None`: somebody else has the job, and the run was killed.
    async fn run_attempt(&self, job: &mut Job, terms: &Terms) -> Option<Ended> {
        let order = match self.order(job, terms).await {
            Ok(order) => order,
            Err(error) => return Some(lost(error.to_string())),
        };
        let (wanted, wants) = watch::channel(if job.open.cancel {
            Wanted::Terminate
        } else {
            Wanted::Run
        });
        let mut run = pin!(self.parts().runs.run(order, wants));
        let mut changes = self.store().watch(job.key(), None, job.revision + 1);
        let mut is_cut_off = self.0.is_cut_off.subscribe();
        let workflow = job.workflow.clone();
        let mut stopped = pin!(self.until_stopped(&workflow));
        loop {
            tokio::select! {
                biased;
                seen = self.seen(&mut changes, job) => match seen {
                    Seen::NotOurs if crate::mutant!(GoesOnUnowned) => {}
                    Seen::NotOurs => return None,
                    Seen::Changed(now) => {
                        if now.open.cancel {
                            // Whoever runs it hears it as long as it runs.
                            let _ = wanted.send(Wanted::Terminate);
                        }
                        *job = *now;
                        self.queue().note(job);
                    }
                },
                // The sender lives as long as this.
                _ = is_cut_off.wait_for(|is_cut_off| *is_cut_off) => return Some(stopped_here()),
                () = &mut stopped => return Some(stopped_here()),
                ended = &mut run => return Some(ended),
            }
        }
    }

    /// Returns once the workflow has been stopped for its grace.
    async fn until_stopped(&self, workflow: &str) {
        let mut changes = self.parts().workflows.changes();
        loop {
            while self.is_running(workflow) {
                changes.next().await;
            }
            let back = async {
                while !self.is_running(workflow) {
                    changes.next().await;
                }
            };
            let terms = self.parts().workflows.terms(workflow);
            let grace = terms.map_or(Duration::ZERO, |terms| terms.grace);
            tokio::select! {
                biased;
                () = back => {}
                () = self.clock().sleep(grace) => return,
            }
        }
    }

    fn is_running(&self, workflow: &str) -> bool {
        let terms = self.parts().workflows.terms(workflow);
        terms.is_some_and(|terms| terms.is_running)
    }

    /// Somebody took the job as lost, and yet this agent goes on: it was stopped for a while, or cut off. No server ended, so
    /// that is not to count against the job. Tried once a reading, a few times: the job goes on meanwhile.
    async fn absolve(&self, ours: &Job) {
        for _ in 0..ABSOLVED_TRIES {
            let Ok(Some(kv)) = self.store().get(ours.key()).await else {
                return;
            };
            let Some(theirs) = Job::of(&kv) else { return };
            if theirs.open.owner == ours.open.owner {
                return;
            }
            let Some(open) = state::absolved(&ours.open, &theirs.open) else {
                return;
            };
            match self.requeue(&theirs, &open).await {
                Ok(Outcome::Found(_)) => {}
                Ok(Outcome::Written(_) | Outcome::Gone) | Err(_) => return,
            }
        }
    }

    async fn order(&self, job: &Job, terms: &Terms) -> Result<Order, Error> {
        let content = &job.open.input;
        let input = match content.blob {
            true => None,
            false => Some(self.small(key::input(&job.id)).await?),
        };
        Ok(Order {
            job: job.id.clone(),
            attempt: job.open.attempt,
            workflow: job.workflow.clone(),
            definition: job.open.definition.unwrap_or(terms.definition),
            input,
            content: content.clone(),
            timeout: job.open.left(terms),
            is_alone: job.open.is_alone(),
        })
    }

    /// Bytes in a key of their own, which is written once: what lies here will do, else what a majority has.
    pub(super) async fn small(&self, key: Vec<u8>) -> Result<Vec<u8>, Error> {
        let here = self
            .store()
            .range(Range::key(key.clone()), Consistency::Serializable)
            .await;
        if let Some(kv) = here.ok().and_then(|mut read| read.kvs.pop()) {
            return Ok(kv.value);
        }
        let kept = self.store().get(key.clone()).await?;
        let name = || String::from_utf8_lossy(&key).into_owned();
        kept.map(|kv| kv.value).ok_or_else(|| Error::BlobMissing(name()))
    }

    /// The next change of the job's record that matters.
    async fn seen(&self, changes: &mut Watch, job: &Job) -> Seen {
        loop {
            let now = match changes.next().await {
                Ok(event) if event.kind == EventKind::Delete => return Seen::NotOurs,
                Ok(event) => Job::of(&event.kv),
                Err(error) => {
                    debug!(job = job.id, %error, "a job is watched anew");
                    self.clock().sleep(REST).await;
                    match self.store().get(job.key()).await {
                        Ok(None) => return Seen::NotOurs,
                        Ok(Some(kv)) => {
                            *changes = self.store().watch(job.key(), None, kv.mod_revision + 1);
                            Job::of(&kv)
                        }
                        // Whether a voter answers at all is another's to look for.
                        Err(_) => continue,
                    }
                }
            };
            return match now {
                Some(now) if is_same_attempt(&now.open, &job.open) => Seen::Changed(Box::new(now)),
                _ => Seen::NotOurs,
            };
        }
    }

    /// Records what the attempt came to. Goes on until that is decided, by this agent or another.
    async fn settle(
        &self,
        mut job: Job,
        mut ended: Ended,
        took: Duration,
        terms: &Terms,
    ) -> Option<(Job, Duration)> {
        let mut namings = 0;
        loop {
            let settled = match state::after(&job.open, &ended.verdict, took, terms) {
                Next::Over(end) => match self.finish(&job, &end, &ended, terms.keep).await {
                    Err(Error::BlobMissing(digest)) if namings >= NAMINGS_MAX => {
                        ended = lost(format!("its result {digest} is on no majority of the servers"));
                        continue;
                    }
                    Err(Error::BlobMissing(_)) => {
                        namings += 1;
                        self.clock().sleep(REST).await;
                        continue;
                    }
                    finished => finished.map(|outcome| (outcome, None)),
                },
                Next::Again(open, rest) => self
                    .requeue(&job, &open)
                    .await
                    .map(|outcome| (outcome, Some((open, rest)))),
            };
            match settled {
                Ok((Outcome::Written(revision), again)) => {
                    let (open, rest) = again?;
                    return Some((
                        Job {
                            open,
                            revision,
                            ..job
                        },
                        rest,
                    ));
                }
                Ok((Outcome::Found(found), _)) if is_same_attempt(&found.open, &job.open) => {
                    job = *found;
                    self.queue().note(&job);
                }
                Ok((Outcome::Found(_) | Outcome::Gone, _)) => {
                    info!(
                        job = job.id,
                        attempt = job.open.attempt,
                        "a late end of an attempt was refused"
                    );
                    return None;
                }
                Err(error) => {
                    warn!(job = job.id, %error, "what an attempt came to cannot be recorded yet");
                    self.clock().sleep(REST).await;
                }
            }
        }
    }

    async fn requeue(&self, job: &Job, open: &Open) -> Result<Outcome, Error> {
        let answer = self.commit(&claim::replace(job, open), WITHIN).await?;
        Ok(claim::outcome(job, open, &answer))
    }

    /// Records that it is over. `Gone` is also what a second sending finds of the first.
    async fn finish(&self, job: &Job, end: &End, ended: &Ended, keep: Duration) -> Result<Outcome, Error> {
        // What a failed job wrote before is its result as well; of one that Pipes ended nothing is.
        let output = ended.output.clone();
        let digest = match &output {
            Some(Output::Blob(content)) => content.digest(),
            _ => None,
        };
        let naming = Naming::of(self.store(), &*self.parts().holders, digest.as_slice()).await?;
        let finished = finish::finished(
            job,
            end,
            ended.stages.clone(),
            output,
            self.times(&job.open, keep),
        );
        let txn = finish::txn(job, &finished, &naming);
        match self.record(job, &finished, &txn).await? {
            // Unchanged: only the naming was in the way.
            Outcome::Found(found) if found.revision == job.revision => {
                Err(Error::BlobMissing(String::from("its result")))
            }
            outcome => Ok(outcome),
        }
    }

    /// Whether this very end is the one on record: an earlier sending was done.
    async fn is_recorded(&self, job: &Job, done: &Done) -> Result<bool, Error> {
        let kept = self.store().get(key::done(&job.workflow, &job.id)).await?;
        let kept = kept.and_then(|kv| crate::record::decode::<Done>(&kv.value));
        Ok(kept.is_some_and(|kept| kept.attempt == done.attempt && kept.finished == done.finished))
    }

    /// Ends a job of which no attempt is under way.
    pub(super) async fn end(&self, job: &Job, end: &End) -> Result<Outcome, Error> {
        self.end_if(job, end, None).await
    }

    /// The same, where that is so as well: in the one transaction that ends it.
    pub(super) async fn end_if(
        &self,
        job: &Job,
        end: &End,
        condition: Option<Compare>,
    ) -> Result<Outcome, Error> {
        let terms = self.parts().workflows.terms(&job.workflow);
        let keep = terms.map_or(state::KEEP, |terms| terms.keep);
        let finished = finish::finished(
            job,
            end,
            serde_json::Value::Array(Vec::new()),
            None,
            self.times(&job.open, keep),
        );
        let mut txn = finish::txn(job, &finished, &Naming::none());
        txn.compares.extend(condition);
        self.record(job, &finished, &txn).await
    }

    /// Has an end recorded, unless the record of the job has changed, or something else is not as it has to be: then it is
    /// found as it was.
    async fn record(&self, job: &Job, finished: &Finished, txn: &Txn) -> Result<Outcome, Error> {
        let answer = self.commit(txn, WITHIN).await?;
        if answer.succeeded {
            return Ok(Outcome::Written(answer.revision));
        }
        match claim::outcome(job, &job.open, &answer) {
            Outcome::Gone if self.is_recorded(job, &finished.done).await? => Ok(Outcome::Written(0)),
            outcome => Ok(outcome),
        }
    }

    fn times(&self, open: &Open, keep: Duration) -> Times {
        let wall_ms = key::milliseconds(self.clock().wall());
        let now = self.clock().age_ms();
        let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        Times {
            started_ms: open.began,
            wall_ms,
            expires_ms: now.saturating_add(keep),
        }
    }
}

fn is_same_attempt(now: &Open, then: &Open) -> bool {
    now.state == OpenState::Running && now.attempt == then.attempt && now.owner == then.owner
}

fn is_waiting_for(open: &Open, owner: Owner) -> bool {
    open.state == OpenState::Queued && open.owner == Some(owner)
}

fn lost(why: String) -> Ended {
    Ended {
        verdict: Verdict::Lost {
            why,
            is_server: false,
        },
        stages: serde_json::Value::Null,
        output: None,
    }
}

fn stopped_here() -> Ended {
    Ended {
        verdict: Verdict::Stopped,
        stages: serde_json::Value::Null,
        output: None,
    }
}
