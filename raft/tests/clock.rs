//! The store's clock goes on whatever becomes of its nodes, and is read at each of them.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, address, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn every_node_reads_the_clock_and_a_new_leader_goes_on_from_it() {
    let cluster = Cluster::of(3).await;
    let began = (Instant::now(), cluster.store(1).now_ms());
    let leader = cluster.leader(1, None).await;
    // Nothing is written for a while, and all go on alike.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for number in 1..=3 {
        let read = cluster.store(number).now_ms();
        assert!(
            read >= began.1 + 290,
            "node {number} reads {read} after {}",
            began.1
        );
    }
    let before = cluster.store(leader).now_ms();
    cluster.close(leader).await;
    let other = (1..=3).find(|number| *number != leader).unwrap();
    cluster.leader(other, Some(leader)).await;
    cluster.store(other).put("a", "1", None).await.unwrap();
    let after = cluster.store(other).now_ms();
    let passed = began.0.elapsed().as_millis() as u64;
    assert!(after >= before, "{after} after {before}");
    assert!(after <= began.1 + passed + 50, "no faster than time: {after}");

    // One that was away, and has only what it applied long ago, hears what time it is.
    cluster.open(leader).await;
    let floor = cluster.store(other).now_ms();
    wait_until("it hears the leader", || {
        cluster.store(leader).now_ms() + 5 >= floor
    })
    .await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_replica_reads_the_clock_of_those_it_asks() {
    let cluster = Cluster::of(5).await;
    cluster.join(6).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (there, here) = (cluster.store(1), cluster.store(6));
    here.get("a").await.unwrap();
    let leader = cluster.leader(1, None).await;
    let read = (cluster.store(leader).now_ms(), here.now_ms());
    assert!(read.1 + 40 >= read.0 && read.1 <= read.0 + 40, "{read:?}");
    let written = there.now_ms();
    there.put("a", "1", None).await.unwrap();
    here.get("a").await.unwrap();
    assert!(here.now_ms() >= written, "what it read was written before");
    assert_eq!(cluster.others(6).len(), 5, "{}", address(6));
    cluster.end().await;
}
