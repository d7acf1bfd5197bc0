//! Attempts: each ends as its input says (`fate.rs`), unless it is told to or dropped before. One that stands still with
//! its host ends when that goes on: late, if its time was over meanwhile.

use std::time::Duration;

use async_trait::async_trait;
use pipes_job::key;
use pipes_job::record::Content;
use pipes_job::seams::{Ended, Order, Output, Runs, Wanted};
use pipes_job::state::{TIMEOUT, Verdict};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::book::Shared;
use crate::fate::{self, End};
use crate::ledger::Running;
use crate::life::alive;

/// Status when a refused attempt says so.
const REFUSED: i32 = 127;
/// SIGTERM's.
const TERMINATED: i32 = 143;

/// Runs attempts on a host.
pub(super) struct Simulated {
    pub(super) host: usize,
    pub(super) name: String,
    pub(super) node: u64,
    pub(super) shared: Shared,
}

/// An attempt under way; over when it is dropped, as it is when its host ends.
struct UnderWay {
    shared: Shared,
    key: (usize, String, u32),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut history = self.shared.lock();
        history.ledger.running.remove(&self.key);
        let (host, job, attempt) = &self.key;
        history.note(format!("n{host} no longer runs {job} {attempt}"));
    }
}

#[async_trait]
impl Runs for Simulated {
    async fn run(&self, order: Order, wanted: watch::Receiver<Wanted>) -> Ended {
        // A process that has ended begins nothing.
        alive(&self.name, std::future::ready(())).await;
        let under_way = self.begin(&order);
        let Some(input) = self.input(&order) else {
            let why = "its input cannot be had".into();
            return ended(
                &order,
                Verdict::Lost {
                    why,
                    is_server: false,
                },
                None,
            );
        };
        let (verdict, output) = self.live(&order, &input, wanted).await;
        alive(&self.name, std::future::ready(())).await;
        drop(under_way);
        ended(&order, verdict, output)
    }
}

impl Simulated {
    fn begin(&self, order: &Order) -> UnderWay {
        let mut history = self.shared.lock();
        history.note(format!("n{} runs {} {}", self.host, order.job, order.attempt));
        history.check(|checks, history| {
            checks
                .jobs
                .began(self.host, self.node, &order.job, order.attempt, history);
        });
        let key = (self.host, order.job.clone(), order.attempt);
        let running = Running {
            node: self.node,
            since_ms: history.ledger.lived(self.host),
            is_late_since: None,
        };
        history.ledger.running.insert(key.clone(), running);
        UnderWay {
            shared: self.shared.clone(),
            key,
        }
    }

    fn input(&self, order: &Order) -> Option<Vec<u8>> {
        match &order.input {
            Some(bytes) => Some(bytes.clone()),
            None => self
                .shared
                .lock()
                .ledger
                .blobs
                .get(&order.content.sha256)
                .cloned(),
        }
    }

    async fn live(
        &self,
        order: &Order,
        input: &[u8],
        mut wanted: watch::Receiver<Wanted>,
    ) -> (Verdict, Option<Output>) {
        let fate = fate::of(input, order.attempt);
        let takes = Duration::from_millis(fate.takes_ms);
        let left = order.timeout.unwrap_or(Duration::MAX);
        let is_terminated = tokio::select! {
            biased;
            _ = wanted.wait_for(|wanted| *wanted >= Wanted::Terminate) => true,
            () = sleep(takes.min(left)) => false,
        };
        if is_terminated {
            sleep(Duration::from_millis(fate.grace_ms)).await;
            return (Verdict::Exited(TERMINATED), None);
        }
        if left < takes {
            let reason = "the timeout ran out".into();
            return (
                Verdict::Refused {
                    status: TIMEOUT,
                    reason,
                },
                None,
            );
        }
        match fate.end {
            End::Exits(status) => {
                let bytes = fate::output(input, status);
                let output = match fate.is_large {
                    true => Output::Blob(self.keep(bytes)),
                    false => Output::Small(bytes),
                };
                (Verdict::Exited(status), Some(output))
            }
            End::Lost(is_server) => {
                let why = "it was lost".into();
                (Verdict::Lost { why, is_server }, None)
            }
            End::Refused => {
                let reason = "it cannot be run".into();
                (
                    Verdict::Refused {
                        status: REFUSED,
                        reason,
                    },
                    None,
                )
            }
        }
    }

    fn keep(&self, bytes: Vec<u8>) -> Content {
        let sha256 = key::sha256(&bytes);
        let content = Content {
            bytes: bytes.len() as u64,
            sha256: sha256.clone(),
            blob: true,
        };
        self.shared.lock().ledger.blobs.insert(sha256, bytes);
        content
    }
}

fn ended(order: &Order, verdict: Verdict, output: Option<Output>) -> Ended {
    Ended {
        verdict,
        // By this a result tells whose it is.
        stages: serde_json::json!([{ "attempt": order.attempt }]),
        output,
    }
}
