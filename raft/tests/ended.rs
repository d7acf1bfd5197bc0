//! A replica that ended by itself, since its disk refused something: said, gone on without, and opened again.

use pipes_raft::{Consistency, Error, Range};

use crate::cluster::{Cluster, wait_until};

/// Octets of a value; a segment of the log holds 16 MiB.
const VALUE: usize = 1024 * 1024;

/// Keeps a node's log from being followed by a second segment, and writes until it should.
async fn end(cluster: &Cluster, number: u16) -> std::path::PathBuf {
    let obstacle = cluster.folder(number).join("log/00000002.seg");
    std::fs::create_dir(&obstacle).unwrap();
    let store = cluster.store(1 + number % 3);
    for at in 0..17_u8 {
        // Who leads may change meanwhile.
        while let Err(error) = store.put(format!("k{at:02}"), vec![at; VALUE], None).await {
            assert!(
                matches!(error, Error::Unknown | Error::Timeout | Error::NoLeader),
                "{error}"
            );
        }
    }
    wait_until("its store has ended", || cluster.status(number).sick.is_some()).await;
    obstacle
}

async fn ends_and_comes_back(cluster: &Cluster, number: u16) {
    let other = 1 + number % 3;
    let store = cluster.store(number);
    let seen = store.put("seen", "1", None).await.unwrap();
    let mut watch = store.watch("seen", None, seen);
    watch.next().await.unwrap();
    let obstacle = end(cluster, number).await;
    let why = cluster.status(number).sick.unwrap();
    assert!(why.contains("/log"), "{why}");
    // It serves as any node does that has no replica.
    store.put("seen", "2", None).await.unwrap();
    assert_eq!(store.get("k16").await.unwrap().unwrap().value, vec![16; VALUE]);
    cluster.leader(other, Some(number)).await;

    std::fs::remove_dir(obstacle).unwrap();
    wait_until("it has its replica again", || {
        let status = cluster.status(number);
        status.sick.is_none() && status.applied > 0
    })
    .await;
    cluster.quiet(number).await;
    let range = Range {
        count_only: true,
        ..Range::prefix("k")
    };
    let own = store.range(range, Consistency::Serializable).await;
    assert_eq!(own.unwrap().count, 17);
    // What watched its own state goes on.
    assert_eq!(watch.next().await.unwrap().kv.value, b"2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_store_ended_says_so_and_opens_it_again() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(1, None).await;
    ends_and_comes_back(&cluster, 1 + leader % 3).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_store_ended_is_followed_by_another_and_opens_it_again() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(1, None).await;
    ends_and_comes_back(&cluster, leader).await;
    cluster.end().await;
}
