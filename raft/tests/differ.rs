//! Replicas that differ: noticed, out, and new again.

use std::time::{Duration, Instant};

use pipes_raft::{Consistency, Error, Options, Range};

use crate::cluster::{Cluster, LIMIT, wait_until};

/// Time from the write until who differs is out.
const OUT_WITHIN: Duration = Duration::from_secs(2);
/// Time from the reset until it is a whole member.
const WHOLE_WITHIN: Duration = Duration::from_secs(30);

/// Node N writes another value for `differ/nN`, and each its own for `differ/all`.
fn differing(mut options: Options) -> Options {
    let name = options.name.clone().into_bytes();
    options.applied_differently = vec![
        (format!("differ/{}", options.name).into_bytes(), b"other".to_vec()),
        (b"differ/all".to_vec(), name),
    ];
    options
}

/// Writes at `number` until it is dropped.
fn load(cluster: &Cluster, number: u16) -> tokio_util::task::AbortOnDropHandle<()> {
    let store = cluster.store(number);
    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        for at in 0.. {
            // Who leads may change meanwhile.
            let _ = store
                .put(format!("load/{}", at % 100), at.to_string(), None)
                .await;
        }
    }))
}

async fn out(cluster: &Cluster, number: u16) {
    let began = Instant::now();
    wait_until("who differs is out", || cluster.status(number).sick.is_some()).await;
    assert!(began.elapsed() < OUT_WITHIN, "{:?}", began.elapsed());
}

/// Makes a node new, as its agent does: removed by the others, set aside, joined.
async fn reset(cluster: &Cluster, number: u16, by: u16) {
    let id = cluster.node(number).id().unwrap();
    cluster.store(by).reset_member(id).await.unwrap();
    cluster.close(number).await;
    let aside = pipes_raft::set_aside(&cluster.folder(number)).unwrap();
    assert!(aside.join("log").exists(), "it is kept");
}

async fn value(cluster: &Cluster, number: u16, key: &str) -> Vec<u8> {
    let read = cluster
        .store(number)
        .range(Range::key(key), Consistency::Serializable)
        .await;
    read.unwrap().kvs.pop().unwrap().value
}

async fn out_and_new_again(cluster: &Cluster, odd: u16) {
    let other = 1 + odd % 3;
    let load = load(cluster, other);
    let key = format!("differ/n{odd}");
    // The leader that acknowledges it may be gone before it could.
    let written = cluster.store(other).put(key.clone(), "same", None).await;
    assert!(matches!(written, Ok(_) | Err(Error::Unknown)), "{written:?}");
    out(cluster, odd).await;
    let status = cluster.status(odd);
    assert!(status.sick.unwrap().contains("differs"));
    for number in 1..=3 {
        assert_eq!(value(cluster, number, &key).await, b"same", "asked at n{number}");
        assert!(!cluster.status(number).is_in_doubt);
    }
    cluster
        .store(odd)
        .put("by the odd one's agent", "1", None)
        .await
        .unwrap();

    let began = Instant::now();
    let old = cluster.node(odd).id().unwrap();
    reset(cluster, odd, other).await;
    // Only this once: its log has the entry.
    let id = cluster.join_unchanged(odd).await;
    assert_ne!(id, old);
    wait_until("it has a vote", || {
        let status = cluster.status(other);
        status.voters.contains(&id) && status.voters.len() == 3
    })
    .await;
    assert!(began.elapsed() < WHOLE_WITHIN, "{:?}", began.elapsed());
    drop(load);
    cluster.store(other).put("after", "1", None).await.unwrap();
    cluster.quiet(other).await;
    assert_eq!(value(cluster, odd, &key).await, b"same");
    assert_eq!(cluster.status(odd).sick, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_applied_an_entry_differently_is_out_and_new_after_a_reset() {
    let cluster = Cluster::with(3, differing).await;
    let leader = cluster.leader(1, None).await;
    out_and_new_again(&cluster, 1 + leader % 3).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_applied_an_entry_differently_is_out_and_new_after_a_reset() {
    let cluster = Cluster::with(3, differing).await;
    let leader = cluster.leader(1, None).await;
    out_and_new_again(&cluster, leader).await;
    assert_ne!(cluster.leader(1 + leader % 3, None).await, leader);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_out_stays_out_when_it_is_opened_again() {
    let cluster = Cluster::with(3, differing).await;
    let leader = cluster.leader(1, None).await;
    let odd = 1 + leader % 3;
    cluster
        .store(leader)
        .put(format!("differ/n{odd}"), "same", None)
        .await
        .unwrap();
    out(&cluster, odd).await;
    let id = cluster.node(odd).id();
    cluster.close(odd).await;
    let node = cluster.open(odd).await;
    assert_eq!(node.id(), id);
    assert!(node.status().sick.is_some());
    assert!(!node.has_log());
    cluster.store(odd).put("a", "1", None).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_three_different_nothing_is_written_until_two_are_reset() {
    let cluster = Cluster::with(3, differing).await;
    let leader = cluster.leader(1, None).await;
    let others = [1 + leader % 3, 1 + (leader + 1) % 3];
    cluster
        .store(leader)
        .put("differ/all", "same", None)
        .await
        .unwrap();
    let began = Instant::now();
    wait_until("all are in doubt", || {
        (1..=3).all(|number| cluster.status(number).is_in_doubt)
    })
    .await;
    assert!(began.elapsed() < OUT_WITHIN, "{:?}", began.elapsed());
    for number in 1..=3 {
        let refused = cluster.store(number).put("a", "1", None).await;
        assert_eq!(refused, Err(Error::ReplicasDiffer));
        assert_eq!(
            cluster.store(number).get("differ/all").await,
            Err(Error::ReplicasDiffer)
        );
        assert!(
            cluster.store(number).members().await.is_ok(),
            "its members are told"
        );
    }
    for number in others {
        reset(&cluster, number, leader).await;
    }
    wait_until("it is decided", || !cluster.status(leader).is_in_doubt).await;
    for number in others {
        cluster.join_unchanged(number).await;
    }
    cluster.settled(3).await;
    cluster.store(others[0]).put("a", "1", None).await.unwrap();
    for number in 1..=3 {
        assert!(!cluster.status(number).is_in_doubt);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_content_of_all_replicas_is_compared_at_one_revision() {
    let cluster = Cluster::with(3, differing).await;
    for at in 0..1200 {
        cluster
            .store(1)
            .put(format!("k{at}"), "value", None)
            .await
            .unwrap();
    }
    let (revision, contents) = cluster.store(2).contents(LIMIT).await.unwrap();
    assert!(revision > 1200);
    let contents: Vec<_> = contents.into_values().map(Result::unwrap).collect();
    assert_eq!(contents.len(), 3);
    assert!(contents[0].keys >= 1200);
    assert!(
        contents.iter().all(|content| *content == contents[0]),
        "{contents:?}"
    );

    cluster.store(1).put("differ/all", "same", None).await.unwrap();
    wait_until("all are in doubt", || {
        (1..=3).all(|number| cluster.status(number).is_in_doubt)
    })
    .await;
    let (_, contents) = cluster.store(2).contents(LIMIT).await.unwrap();
    let digests: std::collections::BTreeSet<_> = contents
        .into_values()
        .map(|content| content.unwrap().digest)
        .collect();
    assert_eq!(digests.len(), 3, "who is in doubt can be looked at");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_refused_where_the_others_are_no_majority() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(1, None).await;
    let (down, asked) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.close(down).await;
    let id = cluster.node(asked).id().unwrap();
    let Err(Error::Refused(why)) = cluster.store(leader).reset_member(id).await else {
        panic!("it was not refused")
    };
    assert!(why.contains("only 1 answer"), "{why}");
    cluster.store(asked).put("a", "1", None).await.unwrap();
    cluster.end().await;
}

/// Has node `number` begin again with what the same node of another group had, which wrote so many keys of its own.
async fn exchange(cluster: &Cluster, number: u16, writes: usize) {
    let other = Cluster::of(3).await;
    let leader = other.leader(1, None).await;
    for at in 0..writes {
        let (key, value) = (format!("load/{}", at % 100), format!("other {at}"));
        other.store(leader).put(key, value, None).await.unwrap();
    }
    other.quiet(leader).await;
    assert_eq!(other.node(number).id(), cluster.node(number).id());
    cluster.close(number).await;
    other.close(number).await;
    for entry in std::fs::read_dir(other.folder(number)).unwrap() {
        let name = entry.unwrap().file_name();
        // It goes on under the same name.
        if name == "identity" {
            continue;
        }
        let (from, to) = (
            other.folder(number).join(&name),
            cluster.folder(number).join(&name),
        );
        if to.is_dir() {
            std::fs::remove_dir_all(&to).unwrap();
        }
        std::fs::rename(from, to).unwrap();
    }
    cluster.open(number).await;
}

async fn exchanged_is_out_and_new_again(is_leader: bool, writes: usize) {
    let cluster = Cluster::with(3, differing).await;
    let leader = cluster.leader(1, None).await;
    for at in 0..50 {
        let key = format!("load/{at}");
        cluster.store(leader).put(key, "own", None).await.unwrap();
    }
    cluster.quiet(leader).await;
    let odd = if is_leader { leader } else { 1 + leader % 3 };
    exchange(&cluster, odd, writes).await;
    let other = 1 + odd % 3;
    let load = load(&cluster, other);
    let written = cluster.store(other).put("after", "exchange", None).await;
    assert!(matches!(written, Ok(_) | Err(Error::Unknown)), "{written:?}");
    out(&cluster, odd).await;
    drop(load);
    reset(&cluster, odd, other).await;
    cluster.join_unchanged(odd).await;
    cluster.settled(3).await;
    assert_eq!(
        value(&cluster, odd, "load/20").await,
        value(&cluster, other, "load/20").await
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_with_the_log_and_state_of_a_shorter_history_is_out_and_new_after_a_reset() {
    exchanged_is_out_and_new_again(false, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_with_the_log_and_state_of_a_longer_history_is_out_and_new_after_a_reset() {
    exchanged_is_out_and_new_again(false, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_the_log_and_state_of_a_shorter_history_is_out_and_new_after_a_reset() {
    exchanged_is_out_and_new_again(true, 10).await;
}
