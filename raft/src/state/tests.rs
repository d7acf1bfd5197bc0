//! The running digest: what carries it on, and what keeps it across restarts and snapshots.

use std::path::Path;

use openraft::EntryPayload;
use openraft::vote::RaftLeaderId as _;

use super::sled::Sled;
use super::*;
use crate::command::{Command, Proposal};
use crate::log::Synced;
use crate::mvcc::CHAIN;
use crate::type_config::{Entry, TypeConfig};
use crate::{Op, Range, Txn};

type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;

fn entry(index: u64, payload: EntryPayload<Proposal, u64, crate::Member>) -> Entry {
    Entry {
        log_id: LogId::new(LeaderId::new(1, 1).to_committed(), index),
        payload,
    }
}

fn put(index: u64, value: &str) -> Entry {
    let txn = Txn {
        success: vec![Op::put("a", value)],
        ..Txn::default()
    };
    let proposal = Proposal::new(&Command::Txn(txn)).unwrap();
    entry(index, EntryPayload::Normal(proposal))
}

fn command(index: u64, command: &Command) -> Entry {
    entry(index, EntryPayload::Normal(Proposal::new(command).unwrap()))
}

fn open(dir: &Path) -> (State, Snapshots) {
    let snapshots = Snapshots::open(&dir.join("snapshots")).unwrap();
    let state = State::open(dir, &snapshots, Synced::all(), Arc::default()).unwrap();
    (state, snapshots)
}

#[test]
fn every_entry_carries_the_digest_on_in_one_batch_or_in_many() {
    let entries = [
        entry(0, EntryPayload::Blank),
        put(1, "1"),
        command(2, &Command::Grant { id: 7, ttl_ms: 1000 }),
        command(3, &Command::Revoke { id: 7 }),
        command(4, &Command::Compact { revision: 2 }),
        command(5, &Command::Revoke { id: 7 }),
    ];
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, many] = [&dirs[0], &dirs[1]].map(|dir| open(dir.path()).0);
    one.apply(&entries).unwrap();
    for entry in &entries {
        many.apply(std::slice::from_ref(entry)).unwrap();
    }
    let mut seen = Vec::new();
    for index in 0..entries.len() as u64 {
        let digest = one.digest_at(index).unwrap();
        assert_eq!(many.digest_at(index), Some(digest));
        assert!(!seen.contains(&digest), "entry {index}");
        seen.push(digest);
    }
    one.stop();
    many.stop();
}

#[test]
fn the_digest_is_kept_by_a_restart_and_by_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (state, snapshots) = open(dir.path());
    state.apply(&[put(0, "1"), put(1, "2")]).unwrap();
    let newest = state.newest_digest();
    assert!(newest.is_some());
    state.snapshot(&snapshots).unwrap();
    state.stop();
    drop(state);

    let (state, _) = open(dir.path());
    assert_eq!(state.newest_digest(), newest);
    state.stop();
    drop(state);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.to_string_lossy().contains("state.") {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let (state, _) = open(dir.path());
    assert_eq!(state.newest_digest(), newest, "the snapshot has it");
    state.stop();
}

#[test]
fn a_state_from_before_there_were_digests_begins_a_chain_with_an_entry() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = open(dir.path());
    state.apply(&[put(0, "1")]).unwrap();
    state.stop();
    drop(state);
    let sled = Sled::open(&dir.path().join("state.1")).unwrap();
    let (stored, _) = sled.load().unwrap();
    sled.store_without_digest(&stored).unwrap();
    sled.flush().unwrap();
    drop(sled);

    let (state, _) = open(dir.path());
    assert_eq!(state.applied().0.unwrap().index, 0, "it is read as it was");
    assert_eq!(state.newest_digest(), None);
    state.apply(&[put(1, "2")]).unwrap();
    assert_eq!(state.newest_digest(), None);
    let begin = command(2, &Command::BeginChain { chain: CHAIN });
    state.apply(&[begin, put(3, "3")]).unwrap();
    assert_eq!(state.digest_at(1), None);
    assert_eq!(state.digest_at(2), Some(Digest::beginning(CHAIN)));
    assert!(state.digest_at(3).is_some());
    state.stop();
}

fn at(time_ms: u64, entry: Entry) -> Entry {
    let payload = match entry.payload {
        EntryPayload::Normal(proposal) => EntryPayload::Normal(proposal.at(time_ms)),
        other => other,
    };
    Entry { payload, ..entry }
}

/// What a state was told last, and what its digest is then.
fn clock_and_digest(state: &State) -> (u64, Option<Digest>) {
    let inner = state.read();
    (inner.meta.clock_ms, inner.meta.digest)
}

#[test]
fn the_clock_is_the_highest_time_of_what_was_applied_and_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let (state, snapshots) = open(dir.path());
    let entries = [
        at(5000, put(0, "1")),
        at(7000, put(1, "2")),
        at(6999, put(2, "3")),
        entry(3, EntryPayload::Blank),
    ];
    state.apply(&entries).unwrap();
    let known = clock_and_digest(&state);
    assert_eq!(
        known.0, 7000,
        "two that were proposed at once lie either way round"
    );
    assert!(
        (7000..9000).contains(&state.clock().now_ms()),
        "it goes on from there"
    );
    state.snapshot(&snapshots).unwrap();
    state.stop();
    drop(state);

    let (state, _) = open(dir.path());
    assert_eq!(clock_and_digest(&state), known);
    assert!(state.clock().now_ms() >= 7000);
    state.stop();
    drop(state);
    std::fs::remove_dir_all(dir.path().join("state.1")).unwrap();
    let (state, _) = open(dir.path());
    assert_eq!(clock_and_digest(&state), known, "the snapshot has it");
    state.stop();
}

#[test]
fn members_whose_clocks_differ_have_different_digests() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other] = [&dirs[0], &dirs[1]].map(|dir| open(dir.path()).0);
    one.write().meta.clock_ms = 1;
    for state in [&one, &other] {
        state.apply(&[entry(0, EntryPayload::Blank)]).unwrap();
    }
    assert!(one.digest_at(0).unwrap().differs(&other.digest_at(0).unwrap()));
    one.stop();
    other.stop();
}

#[test]
fn a_chain_that_another_program_began_is_not_carried_on() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = open(dir.path());
    state.write().meta.digest = Some(Digest::beginning(CHAIN - 1));
    state.apply(&[put(0, "1")]).unwrap();
    assert_eq!(state.newest_digest(), None);
    state
        .apply(&[command(1, &Command::BeginChain { chain: CHAIN })])
        .unwrap();
    assert_eq!(state.digest_at(1), Some(Digest::beginning(CHAIN)));
    state.stop();
}

#[test]
fn a_batch_ends_once_its_answers_are_large() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = open(dir.path());
    let put = |key: String| Op::put(key, vec![b'v'; 1024 * 1024]);
    let puts = (0..5).map(|key| {
        let txn = Txn {
            success: vec![put(format!("k/{key}"))],
            ..Txn::default()
        };
        command(key, &Command::Txn(txn))
    });
    state.apply(&puts.collect::<Vec<_>>()).unwrap();
    let read = |index| {
        let txn = Txn {
            success: vec![Op::put("a", "1"), Op::Range(Range::prefix("k/"))],
            ..Txn::default()
        };
        command(index, &Command::Txn(txn))
    };
    let entries: Vec<Entry> = (5..10).map(read).collect();
    assert_eq!(state.apply(&entries).unwrap().len(), 2);
    assert_eq!(state.applied().0.unwrap().index, 6);
    assert_eq!(state.apply(&entries[2..]).unwrap().len(), 2);
    assert_eq!(state.apply(&entries[4..]).unwrap().len(), 1);
    state.stop();
}
