//! A simulation has one thread for all: who asks flushes, and a task flushes what waits.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Done, Flusher, Memtable, Request, read};
use crate::Error;
use crate::mvcc::{Record, Revision};

impl Memtable {
    pub(super) fn run(mut self, flusher: Flusher, _: Receiver<Request>) -> Result<Memtable, Error> {
        let flusher = Arc::new(Mutex::new(flusher));
        let waiting = Arc::downgrade(&flusher);
        self.flusher = Some(flusher);
        crate::task::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(crate::limit!("patience_ms", 1000u64))).await;
                crate::sim::stall().await;
                let Some(flusher) = waiting.upgrade() else { return };
                let mut flusher = flusher.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = flusher.flush().and_then(|()| flusher.remove()) {
                    tracing::error!(%error, "the state cannot be flushed");
                    return;
                }
            }
        });
        Ok(self)
    }

    /// Those that the log does not have yet cannot be waited for, and are taken from memory.
    pub(in crate::state) fn records(
        &self,
        from: Revision,
        upto: i64,
    ) -> Result<impl Iterator<Item = Result<(Revision, Record), Error>> + '_, Error> {
        self.flush()?;
        let mut records = self.sled.records(from, upto)?.collect::<Result<Vec<_>, _>>()?;
        let range = from..Revision::first_of(upto.saturating_add(1));
        let recent = read(&self.recent);
        let waiting = recent.flushing.records.range(range.clone());
        let waiting = waiting.chain(recent.active.records.range(range));
        records.extend(waiting.map(|(revision, record)| (*revision, record.clone())));
        Ok(records.into_iter().map(Ok))
    }

    pub(super) fn ask(&self, request: fn(Done) -> Request) -> Result<(), Error> {
        let Some(flusher) = &self.flusher else {
            return Err(Error::Stopped);
        };
        let mut flusher = flusher.lock().unwrap_or_else(PoisonError::into_inner);
        match request(sync_channel(1).0) {
            Request::Close(_) => flusher.close(),
            _ => flusher.flush(),
        }
    }
}
