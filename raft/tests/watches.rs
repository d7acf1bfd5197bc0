//! Being told of every change, in order, each once.

use pipes_raft::{Error, EventKind, Watch, prefix_end};

use crate::cluster::{Cluster, LIMIT};

async fn next(watch: &mut Watch) -> pipes_raft::Event {
    tokio::time::timeout(LIMIT, watch.next())
        .await
        .expect("a change in time")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_history_then_what_comes() {
    let cluster = Cluster::of(3).await;
    let first = cluster.store(1).put("a/1", "1", None).await.unwrap();
    cluster.store(1).put("b", "1", None).await.unwrap();
    cluster.store(1).put("a/2", "2", None).await.unwrap();
    let mut watch = cluster.store(3).watch("a/", Some(prefix_end(b"a/")), first);
    assert_eq!(next(&mut watch).await.kv.key, b"a/1");
    assert_eq!(next(&mut watch).await.kv.key, b"a/2");
    cluster.store(2).put("a/1", "3", None).await.unwrap();
    let event = next(&mut watch).await;
    assert_eq!(
        (event.kv.value.as_slice(), event.kv.version),
        (b"3".as_slice(), 2)
    );
    assert_eq!(event.prev.unwrap().value, b"1");
    cluster.store(2).delete("a/1").await.unwrap();
    assert_eq!(next(&mut watch).await.kind, EventKind::Delete);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_falls_behind_misses_and_repeats_nothing() {
    let cluster = Cluster::of(1).await;
    let store = cluster.store(1);
    let mut watch = store.watch("k", Some(prefix_end(b"k")), 0);
    let mut slow = store.watch("k", Some(prefix_end(b"k")), 0);
    // The first event puts it where it is told; then far more come than its queue holds.
    store.put("k", "0", None).await.unwrap();
    next(&mut slow).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for at in 0..200 {
                store
                    .put(format!("k{writer}"), at.to_string(), None)
                    .await
                    .unwrap();
            }
        });
    }
    tasks.join_all().await;
    let mut last = 0;
    for _ in 0..1601 {
        let revision = next(&mut watch).await.kv.mod_revision;
        assert!(revision > last);
        last = revision;
    }
    for _ in 0..1600 {
        next(&mut slow).await;
    }
    store.put("k", "end", None).await.unwrap();
    assert_eq!(next(&mut watch).await.kv.value, b"end");
    assert_eq!(next(&mut slow).await.kv.value, b"end");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_before_the_compaction_ends_with_the_revision_to_begin_at() {
    let cluster = Cluster::of(3).await;
    let store = cluster.store(1);
    let first = store.put("a", "1", None).await.unwrap();
    let second = store.put("a", "2", None).await.unwrap();
    let third = store.put("a", "3", None).await.unwrap();
    store.compact(second).await.unwrap();
    let mut watch = store.watch("a", None, first);
    assert_eq!(watch.next().await, Err(Error::Compacted { revision: second }));
    let mut watch = store.watch("a", None, second);
    assert_eq!(next(&mut watch).await.kv.mod_revision, second);
    assert_eq!(next(&mut watch).await.kv.mod_revision, third);
    assert_eq!(
        store.compact(second).await,
        Err(Error::Compacted { revision: second })
    );
    assert_eq!(store.compact(1000).await, Err(Error::FutureRevision));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_at_a_follower_goes_on_across_a_snapshot() {
    let cluster = Cluster::with(3, |mut options| {
        options.snapshot_entries = 100;
        options
    })
    .await;
    let leader = cluster.leader(1, None).await;
    let follower = 1 + leader % 3;
    let store = cluster.store(leader);
    store.put("k", "0", None).await.unwrap();
    let mut watch = cluster.store(follower).watch("k", None, 1);
    assert_eq!(next(&mut watch).await.kv.value, b"0");
    cluster.cut(follower);
    for at in 1..=600 {
        store.put("k", at.to_string(), None).await.unwrap();
    }
    cluster.heal(follower);
    for at in 1..=600 {
        assert_eq!(next(&mut watch).await.kv.value, at.to_string().as_bytes());
    }
    cluster.end().await;
}
