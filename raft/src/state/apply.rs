//! Applying committed entries, and telling the watchers.

use std::sync::Arc;

use openraft::EntryPayload;

use super::memtable::Memtable;
use super::{Inner, State};
use crate::Error;
#[cfg(sim)]
use crate::command::Proposal;
use crate::command::{ApplyResult, Command};
use crate::mvcc::{CHAIN, Changes, Digest, Notification, Overlay, Trace};
use crate::type_config::{self, Entry, Membership};

/// Octets of answers after which a batch ends: one more beyond that is within what a transaction may read.
const ANSWERED_BYTES_MAX: usize = 8 * 1024 * 1024;

impl State {
    /// Applies committed entries in one batch, and gives their answers: as many of them as answers may be held at once, at
    /// least one.
    pub(crate) fn apply(&self, entries: &[Entry]) -> Result<Vec<ApplyResult>, Error> {
        let mut guard = self.write();
        let inner = &mut *guard;
        let memtable = inner.memtable()?;
        let mut changes = Changes::default();
        let mut answers = Vec::with_capacity(entries.len());
        let mut digests = Vec::with_capacity(entries.len());
        let mut answered = 0;
        #[cfg(sim)]
        let asked = entries;
        #[cfg(sim)]
        let judged = inner.judge_early(entries, &memtable)?;
        #[cfg(sim)]
        let entries = judged.as_slice();
        for entry in entries {
            #[cfg(sim)]
            let is_skipped = crate::sim::is_skipped(&self.dir, entry);
            #[cfg(not(sim))]
            let is_skipped = false;
            let answer = inner.apply(entry, is_skipped, &memtable, &mut changes)?;
            answered += answer.size();
            answers.push(answer);
            digests.push((entry.log_id.index, inner.meta.digest));
            #[cfg(sim)]
            crate::sim::tell_applied(
                &self.dir,
                &asked[answers.len() - 1],
                answers.last(),
                (inner.database.revision, inner.meta.clock_ms),
            );
            if answered >= ANSWERED_BYTES_MAX {
                break;
            }
        }
        for (place, record) in &changes.records {
            inner.database.written.add(place.main, &record.key, &record.value);
        }
        inner.meta.revision = inner.database.revision;
        inner.meta.compacted = inner.database.compacted;
        // It has passed, whether or not they are kept here.
        self.clock.reach(inner.meta.clock_ms);
        inner.notify(&changes, &memtable)?;
        memtable.put(changes, inner.meta.clone())?;
        let progress = inner.progress();
        let mut known = self.digests();
        for (index, digest) in digests {
            known.push(index, digest);
        }
        drop(known);
        drop(guard);
        self.note(progress);
        Ok(answers)
    }

    /// Waits while more is applied than could be stored.
    pub(crate) async fn room(&self) {
        let memtable = self.read().memtable.clone();
        if let Some(memtable) = memtable {
            memtable.room().await;
        }
    }
}

#[cfg(sim)]
impl Inner {
    /// The entries; where that mistake is wanted, with their comparisons judged by the state before them all.
    fn judge_early(&self, entries: &[Entry], records: &Memtable) -> Result<Vec<Entry>, Error> {
        let mut judged = entries.to_vec();
        if crate::mutant!(ComparedEarly) {
            for entry in &mut judged {
                if let EntryPayload::Normal(proposal) = &mut entry.payload
                    && let Command::Txn(txn) = proposal.command()?
                {
                    let judged = Proposal::new(&Command::Txn(self.database.judge(txn, records)?))?;
                    *proposal = judged.at(proposal.time_ms());
                }
            }
        }
        Ok(judged)
    }
}

impl Inner {
    /// Applies one entry, and carries the digest on by it; a simulation may want one skipped.
    fn apply(
        &mut self,
        entry: &Entry,
        is_skipped: bool,
        memtable: &Memtable,
        changes: &mut Changes,
    ) -> Result<ApplyResult, Error> {
        let log_id = entry.log_id;
        // One that another program began is not carried on: what this one does with the same entry may be another thing.
        let before = self.meta.digest.filter(|before| before.chain() == CHAIN);
        let traced = |bytes| Trace::of_entry(before, log_id.leader_id.term, log_id.index, bytes);
        let (mut begun, mut is_known) = (None, true);
        let answer = match &entry.payload {
            EntryPayload::Blank => {
                changes.trace = traced(&[]);
                ApplyResult::Nothing
            }
            EntryPayload::Normal(proposal) if is_skipped => {
                changes.trace = traced(proposal.bytes());
                ApplyResult::Nothing
            }
            EntryPayload::Membership(members) => {
                let mut bytes = Vec::new();
                let encoded = type_config::encode_into(members, &mut bytes);
                encoded.map_err(|error| Error::Corrupt(error.to_string()))?;
                changes.trace = traced(&bytes);
                self.meta.membership = Membership::new(Some(log_id), members.clone());
                ApplyResult::Nothing
            }
            EntryPayload::Normal(proposal) => {
                changes.trace = traced(proposal.bytes());
                // Two that were proposed at once may lie the other way round.
                if proposal.time_ms() > self.meta.clock_ms || crate::mutant!(ClockGoesBack) {
                    self.meta.clock_ms = proposal.time_ms();
                }
                let command = proposal.command()?;
                #[cfg(debug_assertions)]
                let command = self.differently.change(command);
                if let Command::BeginChain { chain } = command {
                    // Of a chain that this program does not write it says nothing.
                    begun = (chain == CHAIN).then(|| Digest::beginning(chain));
                    is_known = begun.is_some();
                }
                self.database.apply(command, log_id.index, memtable, changes)?
            }
        };
        let (revision, compacted) = (self.database.revision, self.database.compacted);
        let clock_ms = self.meta.clock_ms;
        let carried_on =
            || before.map(|before| before.carried_on(changes.trace, revision, compacted, clock_ms));
        self.meta.digest = if is_known { begun.or_else(carried_on) } else { None };
        self.meta.applied = Some(log_id);
        Ok(answer)
    }

    /// Tells the watchers what was written. One whose queue is full is let go: it reads on from the history.
    fn notify(&mut self, changes: &Changes, base: &Memtable) -> Result<(), Error> {
        if self.watchers.is_empty() {
            return Ok(());
        }
        let found = Overlay { changes, base };
        let mut ids = Vec::new();
        let mut notifications: Vec<(u64, Notification)> = Vec::new();
        let mut records = changes.records.iter().peekable();
        while let Some((place, record)) = records.next() {
            self.watchers.concerned(&record.key, &mut ids);
            if !ids.is_empty() {
                let prev = self.database.previous(&record.key, *place, &found)?;
                let event = Arc::new(record.clone().into_event(place.main, prev));
                for id in &ids {
                    match notifications.iter_mut().find(|(other, _)| other == id) {
                        Some((_, notification)) => notification.events.push(event.clone()),
                        None => notifications.push((*id, Notification::new(place.main, event.clone()))),
                    }
                }
            }
            let is_last = records.peek().is_none_or(|(next, _)| next.main != place.main);
            if is_last {
                for (id, notification) in notifications.drain(..) {
                    self.send(id, notification);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, id: u64, notification: Notification) {
        let queue = self.watchers.owner(id);
        if queue.is_some_and(|queue| queue.try_send(notification).is_err()) {
            self.watchers.remove(id);
        }
    }
}
