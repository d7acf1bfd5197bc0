//! openraft's view of the log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::OptionalSend;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use crate::log::{Log, Reader};
use crate::type_config::{Entry, LogId, TypeConfig, Vote};

/// Most bytes of entries in one message to a peer, the first excepted: more would hold heartbeats up on a slow link.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

impl RaftLogReader<TypeConfig> for Reader {
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
        self.read(start..end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        // What is sent begins right after the place it is said to follow, or not at all: openraft does not look, and a
        // follower would put it there. Nothing goes as a heartbeat, and openraft asks again or sends a snapshot.
        let bytes_max = crate::limit!("message_bytes", MESSAGE_BYTES_MAX);
        let entries = self.read(start..end, bytes_max).await?;
        let is_next = entries.first().is_none_or(|first| first.index() == start);
        Ok(if is_next { entries } else { Vec::new() })
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.vote())
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Reader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(LogState {
            last_purged_log_id: self.purged(),
            last_log_id: self.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Reader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        Log::save_vote(self, *vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.note_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.committed())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        Log::append(self, entries.into_iter().collect(), callback).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.truncate(last_log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        Log::purge(self, log_id).await
    }
}
