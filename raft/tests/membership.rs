//! Coming into the group and out of it.

use pipes_raft::{Consistency, Error, Range};

use crate::cluster::{Cluster, address, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_is_a_learner_first_then_a_voter_with_an_id_of_its_own() {
    let cluster = Cluster::of(1).await;
    cluster.store(1).put("a", "1", None).await.unwrap();
    assert_eq!(cluster.node(1).id(), Some(1));
    let second = cluster.join(2).await;
    let third = cluster.join(3).await;
    assert!(1 < second && second < third);
    let own = cluster
        .store(3)
        .range(Range::key("a"), Consistency::Serializable)
        .await
        .unwrap();
    assert_eq!(own.kvs.len(), 1, "who has joined has what there was");
    cluster.settled(3).await;
    let status = cluster.status(1);
    assert_eq!(status.voters, [1, second, third].into());
    assert_eq!(status.members[&third].name, "n3");
    assert_eq!(status.members[&third].address, address(3).to_string());
    // Joining again is no new node.
    let again = cluster
        .node(3)
        .join(&[address(1)], "n3", address(3))
        .await
        .unwrap();
    assert_eq!(again, third);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_member_can_be_asked_to_join() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(1, None).await;
    let follower = 1 + leader % 3;
    let node = cluster.open(4).await;
    let id = node
        .join(&[address(99), address(follower)], "n4", address(4))
        .await
        .unwrap();
    assert_eq!(node.id(), Some(id));
    cluster.settled(4).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_beyond_the_fifth_has_no_replica_and_the_same_handle() {
    let cluster = Cluster::of(5).await;
    let id = cluster.join(6).await;
    assert!(!cluster.status(1).members.contains_key(&id));
    let store = cluster.store(6);
    let mut watch = store.watch("a", None, 0);
    // The first poll fixes "now"; the write comes after it.
    let watched = tokio::spawn(async move { watch.next().await });
    let revision = store.put("b", "0", None).await.unwrap();
    let mut from_then = store.watch("a", None, revision + 1);
    store.put("a", "1", None).await.unwrap();
    assert_eq!(from_then.next().await.unwrap().kv.value, b"1");
    watched.abort();
    assert_eq!(store.get("a").await.unwrap().unwrap().value, b"1");
    let serializable = store
        .range(Range::prefix("a"), Consistency::Serializable)
        .await
        .unwrap();
    assert!(serializable.revision > 0);
    let lease = store.grant(std::time::Duration::from_secs(3), 0).await.unwrap();
    store.keep_alive(lease).await.unwrap();
    store.revoke(lease).await.unwrap();
    assert_eq!(store.keep_alive(lease).await, Err(Error::LeaseNotFound));
    assert_eq!(store.members().await.unwrap().len(), 5);

    // It finds another leader, and has its id after a restart.
    let leader = cluster.leader(1, None).await;
    cluster.close(leader).await;
    let other = if leader == 1 { 2 } else { 1 };
    cluster.leader(other, Some(leader)).await;
    store.put("a", "2", None).await.unwrap();
    cluster.close(6).await;
    let node = cluster.open(6).await;
    assert_eq!(node.id(), Some(id));
    assert_eq!(node.store().get("a").await.unwrap().unwrap().value, b"2");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_counts_no_more() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(1, None).await;
    let gone = 1 + leader % 3;
    let id = cluster.node(gone).id().unwrap();
    cluster.store(leader).remove_member(id).await.unwrap();
    cluster.close(gone).await;
    assert!(!cluster.status(leader).members.contains_key(&id));
    assert_eq!(
        cluster.store(leader).remove_member(id).await,
        Err(Error::MemberNotFound)
    );
    cluster.store(leader).put("a", "1", None).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_folder_at_a_voters_address_is_refused_until_that_one_is_removed() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(1, None).await;
    let lost = 1 + leader % 3;
    let id = cluster.node(lost).id().unwrap();
    cluster.close(lost).await;
    std::fs::remove_dir_all(cluster.folder(lost)).unwrap();
    let node = cluster.open(lost).await;
    let error = node
        .join(&[address(leader)], "again", address(lost))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("remove it before"), "{error}");
    cluster.store(leader).remove_member(id).await.unwrap();
    let new = node
        .join(&[address(leader)], "again", address(lost))
        .await
        .unwrap();
    assert_ne!(new, id);
    wait_until("it has a vote", || cluster.status(leader).voters.contains(&new)).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_can_be_removed() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(1, None).await;
    let other = 1 + leader % 3;
    let id = cluster.node(leader).id().unwrap();
    cluster.store(other).remove_member(id).await.unwrap();
    cluster.leader(other, Some(leader)).await;
    cluster.store(other).put("a", "1", None).await.unwrap();
    assert_eq!(cluster.status(other).voters.len(), 2);
    cluster.end().await;
}
