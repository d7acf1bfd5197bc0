//! The memtable: what is found when, what is removed when, and what a failure leaves.

use std::path::Path;

use super::*;
use crate::type_config::LogId;

fn record(main: i64) -> (Revision, Record) {
    let record = Record {
        key: b"k".to_vec(),
        value: vec![7; 100],
        create: 2,
        version: main - 1,
        lease: 0,
    };
    (Revision::first_of(main), record)
}

fn changes(mains: std::ops::Range<i64>) -> (Changes, Meta) {
    let meta = Meta {
        revision: mains.end - 1,
        ..Meta::default()
    };
    (
        Changes {
            records: mains.map(record).collect(),
            ..Changes::default()
        },
        meta,
    )
}

fn started(dir: &Path) -> Memtable {
    Memtable::start(
        Sled::open(dir).unwrap(),
        Stored::default(),
        Vec::new(),
        Synced::all(),
    )
    .unwrap()
}

/// A memtable whose flusher does only what the test has it do.
fn with_flusher(dir: &Path) -> (Memtable, Flusher) {
    let sled = Sled::open(dir).unwrap();
    let (memtable, flusher, _) = Memtable::with_flusher(sled, Stored::default(), Vec::new(), Synced::all());
    (memtable, flusher)
}

#[test]
fn a_record_is_found_before_and_after_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let memtable = started(dir.path());
    let (first, meta) = changes(2..300);
    memtable.put(first, meta).unwrap();
    assert_eq!(
        memtable.record(Revision::first_of(250)).unwrap(),
        Some(record(250).1)
    );
    assert_eq!(
        memtable.records(Revision::first_of(100), 199).unwrap().count(),
        100
    );
    assert_eq!(
        memtable.sled.record(Revision::first_of(250)).unwrap(),
        Some(record(250).1)
    );
    assert_eq!(memtable.record(Revision::first_of(300)).unwrap(), None);
}

#[test]
fn what_waits_is_flushed_in_time_though_nobody_asks() {
    let dir = tempfile::tempdir().unwrap();
    let memtable = started(dir.path());
    let (first, meta) = changes(2..300);
    memtable.put(first, meta).unwrap();
    let began = Instant::now();
    while memtable.sled.record(Revision::first_of(250)).unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(30), "nothing was flushed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_nobody_can_reach_is_removed_but_not_while_it_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let (memtable, mut flusher) = with_flusher(dir.path());
    let (first, meta) = changes(2..300);
    memtable.put(first, meta).unwrap();
    flusher.unreachable = (2..200).map(Revision::first_of).collect();
    flusher.flush().unwrap();
    let pin = memtable.pin();
    flusher.remove().unwrap();
    assert!(memtable.record(Revision::first_of(150)).unwrap().is_some());
    drop(pin);
    flusher.remove().unwrap();
    assert_eq!(memtable.record(Revision::first_of(150)).unwrap(), None);
    assert!(memtable.record(Revision::first_of(200)).unwrap().is_some());
    // What is left still adds up.
    flusher.close().unwrap();
    drop((memtable, flusher));
    let (stored, _) = Sled::open(dir.path()).unwrap().load().unwrap();
    assert_eq!(stored.meta.revision, 299);
}

#[test]
fn no_record_is_removed_before_the_compaction_that_forgot_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (memtable, mut flusher) = with_flusher(dir.path());
    let (first, meta) = changes(2..50);
    memtable.put(first, meta).unwrap();
    flusher.flush().unwrap();
    let (mut second, mut meta) = changes(50..100);
    second.unreachable = (2..99).map(Revision::first_of).collect();
    meta.compacted = 99;
    memtable.put(second, meta).unwrap();
    // As when they are put between a flush and the removing after it.
    flusher.remove().unwrap();
    assert_eq!(
        memtable.sled.record(Revision::first_of(49)).unwrap(),
        Some(record(49).1),
        "a kill would leave a state of revision 49 without its key"
    );
    flusher.flush().unwrap();
    flusher.remove().unwrap();
    assert_eq!(memtable.record(Revision::first_of(49)).unwrap(), None);
    assert_eq!(
        memtable.record(Revision::first_of(98)).unwrap(),
        None,
        "one that was put and forgotten at once"
    );
    assert!(memtable.record(Revision::first_of(99)).unwrap().is_some());
}

#[test]
fn after_a_failure_nothing_is_stored_and_all_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (memtable, mut flusher) = with_flusher(dir.path());
    let (first, meta) = changes(2..50);
    memtable.put(first, meta).unwrap();
    flusher.flush().unwrap();
    let full = Error::Disk("full".into());
    assert_eq!(
        flusher.attempt(|_, _| Err(full.clone())),
        Err(full.clone()),
        "as a flush that fails"
    );
    let (second, meta) = changes(50..100);
    assert_eq!(memtable.put(second, meta), Err(full.clone()));
    assert_eq!(
        memtable.record(Revision::first_of(70)).unwrap(),
        Some(record(70).1)
    );
    assert_eq!(flusher.close(), Err(full));
    drop((memtable, flusher));
    let (stored, _) = Sled::open(dir.path()).unwrap().load().unwrap();
    assert_eq!(stored.meta.revision, 49);
}

#[test]
fn a_panic_of_sled_is_an_error_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (memtable, mut flusher) = with_flusher(dir.path());
    let panicked = flusher.attempt(|_, _| panic!("damage"));
    assert!(matches!(panicked, Err(Error::Corrupt(_))), "{panicked:?}");
    let (first, meta) = changes(2..50);
    assert_eq!(memtable.put(first, meta), panicked);
}

#[test]
fn records_that_were_stored_without_their_meta_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let sled = Sled::open(dir.path()).unwrap();
    let (first, meta) = changes(2..50);
    sled.store(&mut Stored::default(), &first, meta).unwrap();
    let (second, _) = changes(50..150);
    // As an interrupted flush leaves it: the records, and the meta of before.
    sled.store_records_alone(&second).unwrap();
    drop(sled);
    let sled = Sled::open(dir.path()).unwrap();
    let (stored, database) = sled.load().unwrap();
    assert_eq!((stored.meta.revision, database.revision), (49, 49));
    assert_eq!(sled.record(Revision::first_of(120)).unwrap(), None);
}

#[test]
fn nothing_is_stored_that_the_log_does_not_have_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let sled = Sled::open(dir.path()).unwrap();
    let synced = Synced::nothing();
    let (memtable, mut flusher, _) =
        Memtable::with_flusher(sled, Stored::default(), Vec::new(), synced.clone());
    let (first, mut meta) = changes(2..50);
    type LeaderId = openraft::alias::LeaderIdOf<crate::type_config::TypeConfig>;
    let leader = <LeaderId as openraft::vote::RaftLeaderId>::new(1, 1);
    let applied = LogId::new(openraft::vote::RaftLeaderId::to_committed(&leader), 49);
    meta.applied = Some(applied);
    memtable.put(first, meta).unwrap();
    let flushed = std::thread::spawn(move || {
        let flushed = flusher.flush();
        (flusher, flushed)
    });
    while read(&memtable.recent).meta.is_some() {
        std::thread::yield_now();
    }
    assert!(!read(&memtable.recent).is_flushed());
    // More is applied meanwhile, and again: the first is stored all the same.
    let (later, mut meta) = changes(60..70);
    meta.applied = Some(LogId::new(applied.leader_id, 69));
    memtable.put(later, meta).unwrap();
    synced.catch_up(applied);
    let (mut flusher, flushed) = flushed.join().unwrap();
    assert_eq!(flushed, Ok(()));
    assert!(flusher.stored.meta.applied >= Some(applied));

    let (last, mut meta) = changes(70..80);
    meta.applied = Some(LogId::new(applied.leader_id, 79));
    memtable.put(last, meta).unwrap();
    synced.end();
    assert_eq!(flusher.flush(), Err(Error::Stopped));
    assert!(memtable.record(Revision::first_of(69)).unwrap().is_some());
    assert!(memtable.record(Revision::first_of(79)).unwrap().is_some());
    assert!(flusher.stored.meta.applied < Some(LogId::new(applied.leader_id, 79)));
}
