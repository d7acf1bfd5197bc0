//! Frames by hand, with what the index says meanwhile.

use std::sync::Arc;

use openraft::EntryPayload;
use openraft::vote::RaftLeaderId as _;
use tokio::sync::Semaphore;

use super::*;
use crate::command::Proposal;
use crate::log::recover::recover;

fn entry(index: u64) -> Entry {
    type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
    Entry {
        log_id: LogId::new(LeaderId::new(1, 1).to_committed(), index),
        payload: EntryPayload::Normal(Proposal::from_bytes(&[index as u8; 100])),
    }
}

/// A writer on a new log, and its index.
fn writer(dir: &std::path::Path) -> (Writer, Arc<Index>) {
    let recovered = recover(dir, true).unwrap();
    let index = Arc::new(Index::new(recovered.inner));
    (
        Writer::new(dir.to_path_buf(), index.clone(), recovered.end),
        index,
    )
}

/// Writes these entries as one frame.
async fn append(writer: &mut Writer, number: u32, indexes: std::ops::Range<u64>) {
    let permit = Arc::new(Semaphore::new(1)).acquire_many_owned(0).await.unwrap();
    let entries = indexes.map(entry).collect();
    let mut afterwards = Afterwards::default();
    writer.begin();
    let request = Request::Append(entries, number, IOFlushed::noop(), permit);
    writer.take(request, &mut afterwards).await.unwrap();
    writer.commit(&mut afterwards).await.unwrap();
}

#[tokio::test]
async fn a_segment_begins_with_no_purge_that_is_ahead_of_the_entries_that_follow() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, index) = writer(dir.path());
    let entries: Vec<_> = (1..21).map(entry).collect();
    let number = index.lock().extend(&entries);
    append(&mut writer, number, 1..11).await;
    // A snapshot was installed while the rest waits for the disk; then the segment is full, and the process ends.
    index.lock().purge(entry(20).log_id);
    writer.end.len = segment_bytes_max();
    append(&mut writer, number + 10, 11..21).await;
    drop(writer);
    let inner = recover(dir.path(), false).unwrap().inner;
    assert_eq!(inner.purged, None, "the purge itself was never written");
    assert_eq!(inner.last, Some(entry(20).log_id));
    assert_eq!(inner.slots.len(), 20);
}
