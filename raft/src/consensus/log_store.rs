//! openraft's view of the log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{LogIdOptionExt as _, OptionalSend};

use crate::log::{
    Found, Log, NOT_WRITTEN, Reader, Request, WAITING_KIB_MAX, entry_bytes, log_id, read_entry,
};
use crate::type_config::{Entry, Group, LogId, Vote};

/// Most bytes of entries in one message to a peer, the first excepted: more would hold heartbeats up on a slow link.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

impl Reader {
    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let found = self.index.lock().find(range);
        let mut entries = Vec::with_capacity(found.len());
        let mut bytes = 0;
        for found in found {
            let entry = match found {
                Found::Cached(entry) => entry,
                Found::OnDisk(file, slot) => read_entry(&file, slot.offset, slot.len)?,
            };
            bytes += entry_bytes(&entry);
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl RaftLogReader<Group> for Reader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start..end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, MESSAGE_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.index.lock().vote)
    }
}

impl RaftLogStorage<Group> for Log {
    type LogReader = Reader;

    async fn get_log_state(&mut self) -> io::Result<LogState<Group>> {
        let inner = self.index.lock();
        Ok(LogState {
            last_purged_log_id: inner.purged,
            last_log_id: inner.last,
        })
    }

    async fn get_log_reader(&mut self) -> Reader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.index.lock().vote = Some(*vote);
        self.finish(|done| Request::Vote(*vote, done)).await
    }

    /// Written with the next frame: it only spares work after a restart, and is not worth a sync.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.index.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.index.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Group>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let bytes: usize = entries.iter().map(entry_bytes).sum();
        let share = (bytes / 1024 + 1).min(WAITING_KIB_MAX) as u32;
        let waiting = Arc::clone(&self.waiting);
        let permit = waiting
            .acquire_many_owned(share)
            .await
            .map_err(io::Error::other)?;
        {
            let mut inner = self.index.lock();
            for entry in &entries {
                inner.push(log_id(entry), NOT_WRITTEN, Some(entry.clone()));
            }
        }
        self.send(Request::Append(entries, callback, permit)).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.index.lock().truncate(last_log_id.next_index(), last_log_id);
        self.finish(|done| Request::Truncate(last_log_id, done)).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.index.lock().purge(log_id);
        self.finish(|done| Request::Purge(log_id, done)).await
    }
}
