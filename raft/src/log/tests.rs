//! The log on disk: restarts, torn tails, what does not check.

use std::collections::BTreeSet;
use std::path::Path;

use futures::FutureExt as _;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, vote::RaftLeaderId as _};

use super::index::CACHE_BYTES_MAX;
use super::*;
use crate::command::Proposal;
use crate::format::{FILE_HEAD_LEN, FrameReader, ReadFrame};
use crate::type_config::TypeConfig;

fn id(index: u64) -> LogId {
    type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
    LogId::new(LeaderId::new(1, 1).to_committed(), index)
}

fn entry(index: u64, len: usize) -> Entry {
    Entry {
        log_id: id(index),
        payload: EntryPayload::Normal(Proposal::from_bytes(&vec![index as u8; len])),
    }
}

async fn append(log: &mut Log, indexes: std::ops::Range<u64>, len: usize) {
    log.blocking_append(indexes.map(|index| entry(index, len)))
        .await
        .unwrap();
}

async fn read(log: &Log, range: Range<u64>) -> Vec<Entry> {
    log.reader().try_get_log_entries(range).await.unwrap()
}

/// What is left of a log whose one segment is `bytes`: the index of its last entry.
async fn last_after(bytes: &[u8]) -> Result<Option<u64>, Error> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(record::path(dir.path(), 1), bytes).unwrap();
    let (mut log, closer) = Log::open(dir.path(), true)?;
    let last = log.get_log_state().await.unwrap().last_log_id;
    drop(log);
    closer.close().await;
    Ok(last.map(|last| last.index))
}

/// Where each whole frame of a segment ends, the file's head before them.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut frames = FrameReader::new(&bytes[FILE_HEAD_LEN..], FILE_HEAD_LEN as u64);
    let mut ends = vec![FILE_HEAD_LEN];
    while let ReadFrame::Whole(head, offset, _) = frames.next().unwrap() {
        ends.push(offset as usize + head.len);
    }
    ends
}

/// Three entries, each in a frame of its own: where each of these begins, and the file without the room after them.
async fn three_frames(dir: &Path) -> (Vec<usize>, Vec<u8>) {
    let (mut log, closer) = Log::open(dir, true).unwrap();
    for index in 1..=3 {
        append(&mut log, index..index + 1, 50).await;
    }
    closer.close().await;
    let mut bytes = std::fs::read(record::path(dir, 1)).unwrap();
    let ends = ends(&bytes);
    assert_eq!(ends.len(), 5, "the first frame is the segment's own");
    bytes.truncate(ends[4]);
    (ends[1..4].to_vec(), bytes)
}

/// The same with room behind.
fn with_room(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0; 5000]].concat()
}

#[tokio::test]
async fn a_log_cut_at_any_octet_keeps_every_whole_frame_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (begins, bytes) = three_frames(dir.path()).await;
    for len in begins[0]..bytes.len() {
        let whole = begins.iter().skip(1).filter(|begin| **begin <= len).count() as u64;
        let expected = (whole > 0).then_some(whole);
        assert_eq!(last_after(&bytes[..len]).await.unwrap(), expected, "cut at {len}");
        let zeros = with_room(&bytes[..len]);
        assert_eq!(last_after(&zeros).await.unwrap(), expected, "zeros from {len}");
    }
}

#[tokio::test]
async fn damage_before_what_was_acknowledged_is_refused_at_every_octet() {
    let dir = tempfile::tempdir().unwrap();
    let (begins, bytes) = three_frames(dir.path()).await;
    for at in 0..begins[2] {
        let mut bytes = with_room(&bytes);
        bytes[at] ^= 0x10;
        let error = last_after(&bytes)
            .await
            .expect_err(&format!("octet {at} was changed"));
        assert!(error.to_string().contains("00000001.seg"), "{error}");
    }
}

#[tokio::test]
async fn a_last_frame_full_of_zeros_is_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (begins, mut bytes) = three_frames(dir.path()).await;
    bytes[begins[2]..].fill(0);
    assert_eq!(last_after(&bytes).await.unwrap(), Some(2));
}

#[tokio::test]
async fn frames_are_written_into_room_that_the_file_has_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = record::path(dir.path(), 1);
    for index in 1..=3 {
        let (mut log, closer) = Log::open(dir.path(), true).unwrap();
        append(&mut log, index..index + 1, 50).await;
        drop(log);
        closer.close().await;
        assert_eq!(std::fs::metadata(&path).unwrap().len(), writer::ROOM);
    }
    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    assert_eq!(read(&log, 0..100).await.len(), 3);
    append(&mut log, 4..5, writer::ROOM as usize).await;
    drop(log);
    closer.close().await;
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * writer::ROOM);
    assert_eq!(last_after(&std::fs::read(&path).unwrap()).await.unwrap(), Some(4));
}

#[tokio::test]
async fn entries_written_after_a_torn_tail_are_there_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let (begins, bytes) = three_frames(dir.path()).await;
    let without_end = &bytes[..bytes.len() - 7];
    let mut without_begin = bytes.clone();
    without_begin[begins[2]..begins[2] + 30].fill(0);
    let torn = [
        without_end.to_vec(),
        with_room(without_end),
        with_room(&without_begin),
    ];
    for bytes in torn {
        std::fs::write(record::path(dir.path(), 1), bytes).unwrap();
        let (mut log, closer) = Log::open(dir.path(), true).unwrap();
        // A frame that is shorter: nothing of the torn one may be left behind it.
        append(&mut log, 3..4, 1).await;
        drop(log);
        closer.close().await;
        let (mut log, closer) = Log::open(dir.path(), true).unwrap();
        append(&mut log, 4..6, 20).await;
        assert_eq!(read(&log, 0..100).await.len(), 5);
        drop(log);
        closer.close().await;
    }
}

#[tokio::test]
async fn zeros_in_the_place_of_synced_frames_of_a_closed_segment_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    for at in 0..40 {
        append(&mut log, 1 + at..2 + at, 512 * 1024).await;
    }
    drop(log);
    closer.close().await;
    assert_eq!(record::numbers(dir.path()).unwrap(), [1, 2]);
    let path = record::path(dir.path(), 1);
    let bytes = std::fs::read(&path).unwrap();
    let ends = ends(&bytes);
    for from in [ends[ends.len() - 2], ends[1], FILE_HEAD_LEN] {
        let mut lost = bytes.clone();
        lost[from..].fill(0);
        std::fs::write(&path, lost).unwrap();
        let error = Log::open(dir.path(), true).map(drop).expect_err("it opened");
        assert!(error.to_string().contains("damaged at octet"), "{from}: {error}");
    }
}

#[tokio::test]
async fn what_was_dropped_or_voted_is_so_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    append(&mut log, 1..11, 10).await;
    let vote = Vote::new(7, 3);
    log.save_vote(vote).await.unwrap();
    log.truncate_after(Some(id(8))).await.unwrap();
    append(&mut log, 9..10, 33).await;
    log.purge(id(4)).await.unwrap();
    drop(log);
    closer.close().await;

    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    assert_eq!(log.reader().read_vote().await.unwrap(), Some(vote));
    let state = log.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(id(4)), Some(id(9)))
    );
    let entries = read(&log, 0..100).await;
    assert_eq!(entries.first(), Some(&entry(5, 10)));
    assert_eq!(entries.last(), Some(&entry(9, 33)));
    drop(log);
    closer.close().await;
}

#[tokio::test]
async fn a_committed_place_beyond_the_last_entry_is_taken_for_no_more_than_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    append(&mut log, 1..4, 50).await;
    // As when the frame of the entries up to there was never written.
    log.note_committed(Some(id(9)));
    log.save_vote(openraft::alias::VoteOf::<TypeConfig>::new(2, 1))
        .await
        .unwrap();
    drop(log);
    closer.close().await;
    let (log, closer) = Log::open(dir.path(), true).unwrap();
    assert_eq!(log.committed(), Some(id(3)));
    drop(log);
    closer.close().await;
}

#[tokio::test]
async fn entries_beyond_the_cache_are_read_from_their_segments_and_purged_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    // 60 MiB: four segments, and fifteen times the cache.
    for at in 0..60 {
        append(&mut log, 1 + at * 4..5 + at * 4, 256 * 1024).await;
    }
    assert!(log.index.lock().cache_bytes <= CACHE_BYTES_MAX);
    let numbers: BTreeSet<u32> = record::numbers(dir.path()).unwrap().into_iter().collect();
    assert_eq!(numbers, (1..=4).collect());
    assert_eq!(
        read(&log, 1..3).await,
        [entry(1, 256 * 1024), entry(2, 256 * 1024)]
    );
    let limited = log.reader().limited_get_log_entries(1, 200).await.unwrap();
    assert_eq!(limited.len(), 3, "a message to a peer is bounded");

    log.purge(id(150)).await.unwrap();
    assert_eq!(record::numbers(dir.path()).unwrap(), [3, 4]);
    drop(log);
    closer.close().await;
    let (log, closer) = Log::open(dir.path(), true).unwrap();
    let entries = read(&log, 0..1000).await;
    assert_eq!(
        (entries.len(), entries.first()),
        (90, Some(&entry(151, 256 * 1024)))
    );
    drop(log);
    closer.close().await;
}

#[tokio::test]
async fn a_log_that_was_emptied_is_refused_by_a_node_that_is_not_new() {
    let dir = tempfile::tempdir().unwrap();
    let (log, closer) = Log::open(dir.path(), true).unwrap();
    drop(log);
    closer.close().await;
    std::fs::remove_file(record::path(dir.path(), 1)).unwrap();
    let error = Log::open(dir.path(), false).err().unwrap();
    assert!(
        error.to_string().contains("the log of this node is gone"),
        "{error}"
    );
}

#[tokio::test]
async fn a_log_whose_first_segments_are_gone_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    append(&mut log, 0..40, 1_000_000).await;
    drop(log);
    closer.close().await;
    assert!(record::numbers(dir.path()).unwrap().len() > 1);
    std::fs::remove_file(record::path(dir.path(), 1)).unwrap();
    let error = Log::open(dir.path(), false).err().unwrap();
    assert!(error.to_string().contains("its entries from 1 to "), "{error}");
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    for at in 0..40 {
        append(&mut log, 1 + at..2 + at, 1024 * 1024).await;
    }
    drop(log);
    closer.close().await;
    std::fs::remove_file(record::path(dir.path(), 2)).unwrap();
    let error = Log::open(dir.path(), true).map(drop).unwrap_err();
    assert!(error.to_string().contains("00000002.seg"), "{error}");
}

/// Else it would be gone on with, without the vote that its first frame repeats, and those before it be purged.
#[tokio::test]
async fn a_segment_whose_creation_was_interrupted_at_any_octet_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    three_frames(dir.path()).await;
    let second = record::path(dir.path(), 2);
    let vote = record::Record::Vote(Vote::new(1, 1));
    writer::create(dir.path(), 2, 5, &[Some(vote)]).unwrap();
    let whole = std::fs::read(&second).unwrap();
    for len in 0..whole.len() {
        std::fs::write(&second, &whole[..len]).unwrap();
        let (log, closer) = Log::open(dir.path(), true).unwrap();
        assert_eq!(read(&log, 0..9).await.len(), 3);
        drop(log);
        closer.close().await;
        assert!(!second.exists(), "{len} octets of it");
    }
}

#[tokio::test]
async fn appends_that_wait_share_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (log, closer) = Log::open(dir.path(), true).unwrap();
    let mut waiting = Vec::new();
    for index in 1..=200 {
        let (done, answer) = <TypeConfig as TypeConfigExt>::oneshot();
        log.append(vec![entry(index, 10)], IOFlushed::signal(done))
            .await
            .unwrap();
        waiting.push(answer);
    }
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    drop(log);
    closer.close().await;
    let bytes = std::fs::read(record::path(dir.path(), 1)).unwrap();
    let count = ends(&bytes).len() - 1;
    assert!(count < 150, "{count} frames for 200 appends");
}

#[tokio::test]
async fn what_is_read_to_be_sent_never_begins_after_the_place_it_is_to_follow() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    append(&mut log, 1..10, 10).await;
    log.purge(id(5)).await.unwrap();
    let mut reader = log.reader();
    assert!(reader.limited_get_log_entries(4, 9).await.unwrap().is_empty());
    let sent = reader.limited_get_log_entries(6, 9).await.unwrap();
    assert_eq!(
        sent.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>(),
        [6, 7, 8]
    );
    closer.close().await;
}

#[tokio::test]
async fn an_entry_that_is_not_the_next_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    append(&mut log, 1..4, 10).await;
    for index in [3, 5] {
        let refused = log.blocking_append([entry(index, 10)]).await;
        assert!(refused.is_err(), "entry {index} after 3");
    }
    let refused = log.blocking_append([entry(4, 10), entry(6, 10)]).await;
    assert!(refused.is_err(), "a hole between two");
    append(&mut log, 4..6, 10).await;
    assert_eq!(read(&log, 1..9).await.len(), 5);
    log.purge(id(5)).await.unwrap();
    assert!(
        log.blocking_append([entry(7, 10)]).await.is_err(),
        "a hole after the purge"
    );
    closer.close().await;
}

#[tokio::test]
async fn entries_that_left_the_memory_are_read_where_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    let len = 64 * 1024;
    let count = 3 * CACHE_BYTES_MAX as u64 / len as u64;
    for index in 1..=count {
        append(&mut log, index..index + 1, len).await;
    }
    let mut reader = log.reader();
    let newest = reader.limited_get_log_entries(count, count + 1);
    assert_eq!(
        newest.now_or_never().unwrap().unwrap().len(),
        1,
        "it is in memory"
    );
    let mut oldest = std::pin::pin!(reader.limited_get_log_entries(1, 3));
    assert!((&mut oldest).now_or_never().is_none(), "a thread reads it");
    assert_eq!(oldest.await.unwrap().len(), 2);
    closer.close().await;
}

#[tokio::test]
async fn a_vote_that_rots_behind_the_last_entry_is_found_while_the_log_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, closer) = Log::open(dir.path(), true).unwrap();
    append(&mut log, 1..3, 10).await;
    log.save_vote(Vote::new(7, 1)).await.unwrap();
    log.reader().verify(dir.path()).unwrap();
    let path = record::path(dir.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = *ends(&bytes).last().unwrap();
    bytes[last - 1] ^= 1;
    // In place: the writer has it open.
    std::fs::write(&path, bytes).unwrap();
    let found = log.reader().verify(dir.path()).unwrap_err();
    assert!(found.to_string().contains("cannot be read any more"), "{found}");
    closer.close().await;
}
