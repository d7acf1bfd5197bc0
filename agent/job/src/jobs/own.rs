//! What an agent does for the jobs that it owns: begins what may begin, ends what it may not go on with, hands over.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tracing::{info, warn};

use crate::claim;
use crate::jobs::Jobs;
use crate::key;
use crate::state;

/// Attempts end when no voter has answered for so long, as seen when a read has failed: that takes it up to 5 s, and the
/// next begins a second later, so that the last attempt is over within a minute of the last answer.
const CUT_OFF_AFTER: Duration = Duration::from_secs(53);
/// Between two looks at whether a voter answers.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long handing over may take.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);
/// When nothing is due: only a wake-up counts.
const LONG: Duration = Duration::from_secs(3_600);

impl Jobs {
    /// Does all that an agent does for jobs, until `stopping` ends; then hands over what runs.
    pub async fn run(&self, stopping: impl Future<Output = ()>) {
        let work = async {
            tokio::join!(
                self.follow_presences(),
                self.begin_attempts(),
                self.look_for_voters(),
                self.take_over(),
                self.expire(),
            )
        };
        tokio::select! {
            biased;
            () = stopping => {}
            _ = work => {}
        }
        // The attempts went with the work, and were killed.
        self.hand_over().await;
    }

    async fn begin_attempts(&self) {
        let mut attempts = FuturesUnordered::new();
        let mut changes = self.parts().workflows.changes();
        loop {
            while let Some(job) = self.next() {
                attempts.push(self.attempt(job));
            }
            let now = self.clock().monotonic();
            // What may not begin is not waited for: whoever changes that says so.
            let due = self.queue().due().filter(|_| self.may_begin());
            let rest = due.map_or(LONG, |due| due.saturating_sub(now));
            tokio::select! {
                biased;
                Some(()) = attempts.next(), if !attempts.is_empty() => {}
                () = self.0.queued.notified() => {}
                () = changes.next() => {}
                () = self.clock().sleep(rest) => {}
            }
        }
    }

    /// This agent is present, and a voter answers.
    fn may_begin(&self) -> bool {
        self.owner().is_some() && !*self.0.is_cut_off.borrow()
    }

    fn next(&self) -> Option<claim::Job> {
        if !self.may_begin() {
            return None;
        }
        let now = self.clock().monotonic();
        self.queue().next(now, |name| self.parts().workflows.terms(name))
    }

    /// While attempts run: does a voter answer? Reading takes no place in the log.
    async fn look_for_voters(&self) {
        let mut last = self.clock().monotonic();
        loop {
            self.clock().sleep(LOOK_EVERY).await;
            let begun = self.clock().monotonic();
            if self.queue().running().next().is_none() {
                last = begun;
                self.is_cut_off(false);
                continue;
            }
            // Within the store's own time for an answer.
            let answered = self.store().get(key::presence(self.parts().node)).await.is_ok();
            let is_cut_off = match answered {
                true => {
                    last = begun;
                    false
                }
                false => {
                    let now = self.clock().monotonic();
                    now.saturating_sub(last) > CUT_OFF_AFTER && !crate::mutant!(RunsCutOff)
                }
            };
            self.is_cut_off(is_cut_off);
        }
    }

    fn is_cut_off(&self, is_cut_off: bool) {
        let known = &self.0.is_cut_off;
        if known.send_if_modified(|known| std::mem::replace(known, is_cut_off) != is_cut_off) {
            match is_cut_off {
                true => {
                    warn!("no voter has answered for a minute: attempts end here, and go on where one does");
                }
                // What waits may begin.
                false => self.0.queued.notify_one(),
            }
        }
    }

    /// What ran is queued for whoever takes it.
    async fn hand_over(&self) {
        let now = self.clock().monotonic();
        let running: Vec<_> = self.queue().running().cloned().collect();
        let handed = running.iter().map(|running| async {
            let open = state::handed_over(&running.job.open, now.saturating_sub(running.since));
            let txn = claim::replace(&running.job, &open);
            let answer = self.commit(&txn, HAND_OVER_WITHIN).await;
            answer.is_ok_and(|answer| answer.succeeded)
        });
        let all = join_all(handed);
        tokio::select! {
            biased;
            handed = all => {
                let count = handed.iter().filter(|is_done| **is_done).count();
                if !handed.is_empty() {
                    info!(jobs = count, of = handed.len(), "handed over");
                }
            }
            () = self.clock().sleep(HAND_OVER_WITHIN) => {
                warn!(jobs = running.len(), "jobs could not be handed over in time; others take them as lost");
            }
        }
    }
}
