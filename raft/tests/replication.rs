//! Writing and reading at any node, whoever leads.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pipes_raft::{Compare, CompareOp, Consistency, Error, Op, OpResult, Range, Target, Txn};

use crate::cluster::{Cluster, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_at_any_node_is_read_at_any_node() {
    let cluster = Cluster::of(3).await;
    for number in 1..=3 {
        let key = format!("key{number}");
        cluster
            .store(number)
            .put(key.clone(), "value", None)
            .await
            .unwrap();
        let own = cluster
            .store(number)
            .range(Range::key(key.clone()), Consistency::Serializable)
            .await
            .unwrap();
        assert_eq!(
            own.kvs.len(),
            1,
            "who wrote it reads it at once, even serializable"
        );
        for other in 1..=3 {
            let found = cluster.store(other).get(key.clone()).await.unwrap();
            assert_eq!(found.unwrap().value, b"value");
        }
    }
    assert_eq!(cluster.store(2).prefix("key").await.unwrap().len(), 3);
    assert!(cluster.store(3).delete("key1").await.unwrap());
    assert!(!cluster.store(3).delete("key1").await.unwrap());
    assert_eq!(cluster.store(1).get("key1").await.unwrap(), None);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_compare_and_swap_one_wins() {
    let cluster = Cluster::of(3).await;
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..30u16 {
        let store = cluster.store(1 + at % 3);
        tasks.spawn(async move {
            let txn = Txn {
                compares: vec![Compare::absent("one")],
                success: vec![Op::put("one", at.to_string())],
                failure: vec![Op::Range(Range::key("one"))],
            };
            store.txn(txn).await.unwrap().succeeded
        });
    }
    let won = tasks.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_only_reads_takes_no_place_in_the_log() {
    let cluster = Cluster::of(3).await;
    cluster.store(1).put("a", "1", None).await.unwrap();
    let last = cluster.quiet(1).await;
    for number in 1..=3 {
        let txn = Txn {
            compares: vec![Compare::key("a", CompareOp::Equal, Target::Value(b"1".to_vec()))],
            success: vec![Op::Range(Range::key("a"))],
            failure: vec![],
        };
        let result = cluster.store(number).txn(txn).await.unwrap();
        assert!(result.succeeded);
        let Some(OpResult::Range(range)) = result.responses.first() else {
            panic!("{result:?}")
        };
        assert_eq!(range.kvs.len(), 1);
        assert_eq!(cluster.status(number).applied, last);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_goes_on_under_another_leader_and_nothing_acknowledged_is_lost() {
    let cluster = Cluster::of(3).await;
    let old = cluster.leader(1, None).await;
    let (other, third) = (1 + old % 3, 1 + (old + 1) % 3);
    cluster.store(other).put("before", "1", None).await.unwrap();
    cluster.cut(old);
    cluster.leader(other, Some(old)).await;
    cluster.store(other).put("after", "2", None).await.unwrap();
    // The old leader has no quorum: it may not answer with what it has.
    assert!(cluster.store(old).get("before").await.is_err());
    cluster.heal(old);
    for number in [old, other, third] {
        assert!(cluster.store(number).get("before").await.unwrap().is_some());
        assert!(cluster.store(number).get("after").await.unwrap().is_some());
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_unknown_and_is_done_once() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(1, None).await;
    let follower = 1 + leader % 3;
    let before = cluster.wires.forwarded.load(Ordering::Relaxed);
    cluster.deafen(follower, true);
    let error = cluster.store(follower).put("a", "1", None).await.unwrap_err();
    assert_eq!(error, Error::Unknown);
    assert_eq!(
        cluster.wires.forwarded.load(Ordering::Relaxed),
        before + 1,
        "it is not sent again"
    );
    cluster.deafen(follower, false);
    let found = cluster.store(leader).get("a").await.unwrap().unwrap();
    assert_eq!(found.version, 1);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_reaches_nobody_is_not_unknown() {
    let cluster = Cluster::with(3, |mut options| {
        options.request_timeout = Duration::from_millis(1500);
        options
    })
    .await;
    let leader = cluster.leader(1, None).await;
    let follower = 1 + leader % 3;
    cluster.cut(follower);
    let error = cluster.store(follower).put("a", "1", None).await.unwrap_err();
    assert!(error.may_retry(), "{error:?}");
    cluster.heal(follower);
    assert_eq!(cluster.store(leader).get("a").await.unwrap(), None);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_node_that_comes_back_does_not_raise_the_term() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(1, None).await;
    let follower = 1 + leader % 3;
    let term = cluster.status(leader).term;
    cluster.cut(follower);
    // A follower that hears of nobody asks the two others whether they would vote for it.
    wait_until("the cut node has stood for election three times", || {
        cluster.wires.lost.load(Ordering::Relaxed) >= 6
    })
    .await;
    cluster.heal(follower);
    cluster.store(follower).put("a", "1", None).await.unwrap();
    assert_eq!(cluster.status(leader).term, term);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_at_all_nodes_each_get_a_revision_of_their_own() {
    let cluster = Cluster::of(3).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..48u16 {
        let store = cluster.store(1 + writer % 3);
        tasks.spawn(async move {
            let mut revisions = Vec::new();
            for at in 0..50 {
                revisions.push(store.put(format!("w{writer}/{at}"), "x", None).await.unwrap());
            }
            revisions
        });
    }
    let mut revisions = tasks.join_all().await.concat();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 48 * 50);
    assert_eq!(cluster.store(2).prefix("w").await.unwrap().len(), 48 * 50);
    cluster.end().await;
}
