//! Reads: of one state, wherever its records lie, and never where others wait.

use std::time::Duration;

use futures::FutureExt as _;
use pipes_raft::{Compare, CompareOp, Consistency, Op, OpResult, Range, Target, Txn};

use crate::cluster::Cluster;

#[test]
fn a_range_is_read_on_a_thread_that_nobody_waits_for() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let cluster = Cluster::of(1).await;
        let store = cluster.store(1);
        for number in 0..20 {
            store.put(format!("k/{number}"), "v", None).await.unwrap();
        }
        // The only thread that it could be read on has something to do. Whoever polls goes on all the same.
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let busy = tokio::task::spawn_blocking(move || wait.recv().is_ok());
        let all = store.range(Range::prefix("k/"), Consistency::Serializable);
        let mut all = std::pin::pin!(all);
        assert!(all.as_mut().now_or_never().is_none());
        go.send(()).unwrap();
        assert!(busy.await.unwrap());
        assert_eq!(all.await.unwrap().kvs.len(), 20);
        cluster.end().await;
    });
}

#[test]
fn a_few_keys_that_are_in_memory_are_read_together_though_every_thread_is_busy() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let cluster = Cluster::of(1).await;
        let store = cluster.store(1);
        for key in ["a", "b"] {
            store.put(key, "v", None).await.unwrap();
        }
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let busy = tokio::task::spawn_blocking(move || wait.recv().is_ok());
        let keys = ["a", "b", "c"].map(|key| Op::Range(Range::key(key)));
        let txn = Txn {
            success: keys.to_vec(),
            ..Txn::default()
        };
        let read = tokio::time::timeout(Duration::from_secs(10), store.txn(txn)).await;
        go.send(()).unwrap();
        assert!(busy.await.unwrap());
        let responses = read.expect("it waits for no thread").unwrap().responses;
        let found = responses.iter().map(|response| match response {
            OpResult::Range(found) => found.kvs.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(found.collect::<Vec<_>>(), [1, 1, 0]);
        cluster.end().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_reads_one_state_whether_it_is_in_memory_or_on_disk() {
    let cluster = Cluster::of(1).await;
    let store = cluster.store(1);
    for number in 0..20 {
        store
            .put(format!("k/{number:02}"), format!("v{number}"), None)
            .await
            .unwrap();
    }
    // Closed, all of it is on disk.
    cluster.close(1).await;
    cluster.open(1).await;
    cluster.quiet(1).await;
    let store = cluster.store(1);
    store.put("k/03", "new", None).await.unwrap();
    let txn = |value: &str| Txn {
        compares: vec![
            Compare::key("k/07", CompareOp::Equal, Target::Value("v7".into())),
            Compare::key("k/03", CompareOp::Equal, Target::Value(value.into())),
        ],
        success: vec![Op::Range(Range::prefix("k/"))],
        failure: vec![Op::Range(Range::key("k/00"))],
    };
    let read = |result: pipes_raft::TxnResult| match &result.responses[0] {
        OpResult::Range(found) => found.kvs.iter().map(|kv| kv.value.clone()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let all = read(store.txn(txn("new")).await.unwrap());
    assert_eq!(all.len(), 20);
    assert_eq!((all[0].as_slice(), all[3].as_slice()), (&b"v0"[..], &b"new"[..]));
    assert_eq!(read(store.txn(txn("v3")).await.unwrap()), [b"v0"]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_replica_reads_what_is_larger_than_a_message() {
    const KEYS: u8 = 20;
    let cluster = Cluster::of(3).await;
    for at in 0..KEYS {
        let key = format!("k{at:02}");
        cluster
            .store(1)
            .put(key, vec![at; 1024 * 1024], None)
            .await
            .unwrap();
    }
    let handle = 1 + cluster.leader(1, None).await % 3;
    cluster.close(handle).await;
    std::fs::remove_dir_all(cluster.folder(handle).join("log")).unwrap();
    let node = cluster.open(handle).await;
    assert!(node.status().sick.is_some());
    node.note_seeds(&cluster.others(handle));
    for consistency in [Consistency::Linearizable, Consistency::Serializable] {
        let read = async |limit| {
            let range = Range {
                limit,
                ..Range::prefix("k")
            };
            node.store().range(range, consistency).await.unwrap()
        };
        let all = read(0).await;
        let firsts: Vec<u8> = all.kvs.iter().map(|kv| kv.value[0]).collect();
        assert_eq!(firsts, (0..KEYS).collect::<Vec<_>>());
        assert_eq!((all.more, all.count), (false, usize::from(KEYS)));
        let some = read(15).await;
        assert_eq!(
            (some.kvs.len(), some.more, some.count),
            (15, true, usize::from(KEYS))
        );
    }
    cluster.end().await;
}
