//! Presence that ends by itself, and not a moment early.

use std::time::{Duration, Instant};

use pipes_raft::Error;

use crate::cluster::{Cluster, LIMIT};

#[tokio::test(flavor = "multi_thread")]
async fn an_unrenewed_lease_takes_its_keys_with_it_and_not_early() {
    let cluster = Cluster::of(3).await;
    let store = cluster.store(2);
    let ttl = Duration::from_millis(700);
    let began = Instant::now();
    let lease = store.grant(ttl, 0).await.unwrap();
    let revision = store.put("present", "1", Some(lease)).await.unwrap();
    let mut watch = cluster.store(3).watch("present", None, revision + 1);
    let event = tokio::time::timeout(LIMIT, watch.next()).await.unwrap().unwrap();
    assert_eq!(event.kind, pipes_raft::EventKind::Delete);
    assert!(began.elapsed() >= ttl);
    assert_eq!(store.keep_alive(lease).await, Err(Error::LeaseNotFound));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_outlives_its_term() {
    let cluster = Cluster::of(3).await;
    let store = cluster.store(2);
    let ttl = Duration::from_millis(1500);
    let lease = store.grant(ttl, 0).await.unwrap();
    store.put("present", "1", Some(lease)).await.unwrap();
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    while began.elapsed() < 2 * ttl {
        ticks.tick().await;
        assert_eq!(store.keep_alive(lease).await, Ok(ttl));
    }
    assert!(store.get("present").await.unwrap().is_some());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_outlives_a_change_of_leader_and_ends_under_the_next() {
    let cluster = Cluster::of(3).await;
    let old = cluster.leader(1, None).await;
    let other = 1 + old % 3;
    let store = cluster.store(other);
    let lease = store.grant(Duration::from_secs(2), 0).await.unwrap();
    let revision = store.put("present", "1", Some(lease)).await.unwrap();
    cluster.close(old).await;
    cluster.leader(other, Some(old)).await;
    let led = Instant::now();
    let mut watch = store.watch("present", None, revision + 1);
    let event = tokio::time::timeout(LIMIT, watch.next()).await.unwrap().unwrap();
    assert_eq!(event.kind, pipes_raft::EventKind::Delete);
    assert!(
        led.elapsed() >= Duration::from_millis(1500),
        "a new leader gives a full term: {:?}",
        led.elapsed()
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_outlives_a_time_without_a_quorum() {
    let cluster = Cluster::of(2).await;
    let leader = cluster.leader(1, None).await;
    let store = cluster.store(leader);
    let ttl = Duration::from_secs(1);
    let lease = store.grant(ttl, 0).await.unwrap();
    cluster.close(3 - leader).await;
    // Nobody can renew it meanwhile, and nobody is to blame.
    tokio::time::sleep(2 * ttl).await;
    cluster.open(3 - leader).await;
    cluster.leader(leader, None).await;
    assert_eq!(store.keep_alive(lease).await, Ok(ttl));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_lease_takes_its_keys_at_once() {
    let cluster = Cluster::of(1).await;
    let store = cluster.store(1);
    let lease = store.grant(Duration::from_secs(60), 42).await.unwrap();
    assert_eq!(lease, 42);
    assert_eq!(
        store.grant(Duration::from_secs(60), 42).await,
        Err(Error::LeaseExists)
    );
    store.put("a", "1", Some(lease)).await.unwrap();
    store.revoke(lease).await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), None);
    assert_eq!(store.revoke(lease).await, Err(Error::LeaseNotFound));
    assert_eq!(store.put("a", "1", Some(lease)).await, Err(Error::LeaseNotFound));
    cluster.end().await;
}
