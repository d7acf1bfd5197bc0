//! Reads: of one state, wherever its records lie, and never where others wait.

use futures::FutureExt as _;
use pipes_raft::{Compare, CompareOp, Consistency, Op, OpResult, Range, Target, Txn};

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_read_on_a_thread_that_nobody_waits_for() {
    let cluster = Cluster::of(1).await;
    let store = cluster.store(1);
    for number in 0..20 {
        store.put(format!("k/{number}"), "v", None).await.unwrap();
    }
    // Whoever polls goes on, whatever the range takes. Now and then the thread may be done before it is asked.
    let polled_once = || {
        store
            .range(Range::prefix("k/"), Consistency::Serializable)
            .now_or_never()
    };
    assert!((0..20).any(|_| polled_once().is_none()));
    let all = store.range(Range::prefix("k/"), Consistency::Serializable).await;
    assert_eq!(all.unwrap().kvs.len(), 20);
    cluster.end().await;
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
