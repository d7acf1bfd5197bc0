//! What lies on disk, and what is made of it when it is opened again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use pipes_raft::{Error, Store};

use crate::cluster::{Cluster, LIMIT, wait_until};

async fn fill(store: &Store, from: usize, to: usize) {
    for at in from..to {
        store
            .put(format!("k{at:05}"), format!("value {at}"), None)
            .await
            .unwrap();
    }
}

async fn count(store: &Store) -> usize {
    store.prefix("k").await.unwrap().len()
}

/// The length and time of change of every file.
fn files_under(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut files = BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        // One that goes meanwhile is none.
        let file = file.unwrap();
        let Ok(metadata) = file.metadata() else { continue };
        if metadata.is_dir() {
            files.extend(files_under(&file.path()));
        } else {
            files.insert(file.path(), (metadata.len(), metadata.modified().unwrap()));
        }
    }
    files
}

fn state_dirs(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("state.")).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_survive_a_restart_of_all_nodes() {
    let cluster = Cluster::of(3).await;
    fill(&cluster.store(2), 0, 100).await;
    let revision = cluster.status(2).revision;
    for number in 1..=3 {
        cluster.close(number).await;
    }
    for number in 1..=3 {
        let node = cluster.open(number).await;
        assert!(node.has_log());
        assert!(node.id().is_some());
    }
    assert_eq!(count(&cluster.store(3)).await, 100);
    assert_eq!(cluster.store(1).put("k", "", None).await.unwrap(), revision + 1);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_restarts_with_what_it_had_and_catches_up() {
    let cluster = Cluster::of(3).await;
    fill(&cluster.store(1), 0, 20).await;
    cluster.close(3).await;
    fill(&cluster.store(1), 20, 40).await;
    cluster.open(3).await;
    assert_eq!(count(&cluster.store(3)).await, 40);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_lost_is_made_anew_from_the_log() {
    let cluster = Cluster::of(1).await;
    fill(&cluster.store(1), 0, 50).await;
    cluster.close(1).await;
    for name in state_dirs(&cluster.folder(1)) {
        std::fs::remove_dir_all(cluster.folder(1).join(name)).unwrap();
    }
    cluster.open(1).await;
    assert_eq!(count(&cluster.store(1)).await, 50);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_does_not_check_is_set_aside_and_made_anew() {
    let cluster = Cluster::of(1).await;
    fill(&cluster.store(1), 0, 50).await;
    cluster.close(1).await;
    let names = state_dirs(&cluster.folder(1));
    let db = cluster.folder(1).join(&names[0]).join("db");
    let mut bytes = std::fs::read(&db).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        bytes[at] ^= 0x55;
    }
    std::fs::write(&db, bytes).unwrap();
    cluster.open(1).await;
    assert_eq!(count(&cluster.store(1)).await, 50);
    assert!(state_dirs(&cluster.folder(1)).contains(&format!("{}.bad", names[0])));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_closed_while_it_makes_a_snapshot_has_closed_its_state() {
    let cluster = Cluster::with(1, |mut options| {
        options.snapshot_entries = 20;
        options
    })
    .await;
    for round in 0..20 {
        fill(&cluster.store(1), round * 50, round * 50 + 50).await;
        cluster.close(1).await;
        // One that somebody still has open is set aside.
        cluster.open(1).await;
        let dirs = state_dirs(&cluster.folder(1));
        assert!(!dirs.iter().any(|name| name.ends_with(".bad")), "{dirs:?}");
    }
    assert_eq!(count(&cluster.store(1)).await, 1000);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_purged_behind_a_snapshot_and_the_snapshot_has_it_all() {
    let cluster = Cluster::with(1, |mut options| {
        options.snapshot_entries = 200;
        options
    })
    .await;
    fill(&cluster.store(1), 0, 1000).await;
    let snapshots = cluster.folder(1).join("snapshots");
    wait_until("there is a snapshot", || {
        std::fs::read_dir(&snapshots)
            .unwrap()
            .any(|file| file.unwrap().path().extension().is_some_and(|e| e == "snap"))
    })
    .await;
    cluster.close(1).await;
    for name in state_dirs(&cluster.folder(1)) {
        std::fs::remove_dir_all(cluster.folder(1).join(name)).unwrap();
    }
    cluster.open(1).await;
    assert_eq!(count(&cluster.store(1)).await, 1000);
    cluster.close(1).await;

    // Without state and snapshot, what the log has lost is lost: that is said, and nothing is made up.
    for name in state_dirs(&cluster.folder(1)) {
        std::fs::remove_dir_all(cluster.folder(1).join(name)).unwrap();
    }
    std::fs::remove_dir_all(&snapshots).unwrap();
    let sick = cluster.open(1).await.status().sick;
    let why = sick.expect("a log without its beginning was taken");
    assert!(why.contains("no snapshot or state reaches that far"), "{why}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_too_long_is_given_a_snapshot() {
    let cluster = Cluster::with(3, |mut options| {
        options.snapshot_entries = 100;
        options
    })
    .await;
    fill(&cluster.store(1), 0, 50).await;
    let leader = cluster.leader(1, None).await;
    let follower = 1 + leader % 3;
    cluster.close(follower).await;
    fill(&cluster.store(leader), 50, 800).await;
    let snapshots = cluster.folder(leader).join("snapshots");
    wait_until("the leader has a snapshot", || {
        std::fs::read_dir(&snapshots).unwrap().count() > 0
    })
    .await;
    let node = cluster.open(follower).await;
    wait_until("the follower has it all", || {
        node.status().revision == cluster.status(leader).revision
    })
    .await;
    assert_eq!(count(&cluster.store(follower)).await, 800);
    // And it is there after a restart.
    cluster.close(follower).await;
    cluster.open(follower).await;
    assert_eq!(count(&cluster.store(follower)).await, 800);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_of_the_log_costs_nothing_that_was_acknowledged() {
    let cluster = Cluster::of(1).await;
    fill(&cluster.store(1), 0, 30).await;
    cluster.close(1).await;
    let log = cluster.folder(1).join("log/00000001.seg");
    let mut bytes = std::fs::read(&log).unwrap();
    // A frame that was being written when the power went: after the last one, a body may end with a few zeros.
    let end = 16 + bytes.iter().rposition(|octet| *octet != 0).unwrap();
    bytes[end..end + 777].fill(0x5a);
    std::fs::write(&log, bytes).unwrap();
    cluster.open(1).await;
    assert_eq!(count(&cluster.store(1)).await, 30);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_is_gone_opens_no_replica() {
    let cluster = Cluster::of(1).await;
    cluster.close(1).await;
    std::fs::remove_dir_all(cluster.folder(1).join("log")).unwrap();
    let why = cluster.open(1).await.status().sick.expect("it opened");
    assert!(why.contains("the log of this node is gone"), "{why}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_one_nodes_alone_and_of_one_cluster() {
    let cluster = Cluster::of(1).await;
    let Err(Error::Refused(why)) = cluster.try_open(1).await else {
        panic!("it opened twice")
    };
    assert!(why.contains("another process"), "{why}");
    cluster.close(1).await;
    let stranger = Cluster {
        options: |mut options| {
            options.cluster = "other".into();
            options
        },
        ..cluster
    };
    let Err(Error::Refused(why)) = stranger.try_open(1).await else {
        panic!("it opened")
    };
    assert!(why.contains("of the cluster test, not of other"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_that_are_left_answer_that_the_store_has_stopped() {
    let cluster = Cluster::of(1).await;
    let store = cluster.store(1);
    let mut watch = store.watch("a", None, 0);
    cluster.close(1).await;
    assert_eq!(store.put("a", "1", None).await, Err(Error::Stopped));
    assert_eq!(store.get("a").await, Err(Error::Stopped));
    let told = tokio::time::timeout(LIMIT, watch.next()).await.unwrap();
    assert_eq!(told, Err(Error::Stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_group_writes_nothing() {
    let cluster = Cluster::of(3).await;
    let lease = cluster.store(1).grant(Duration::from_secs(30), 0).await.unwrap();
    // Longer than changes wait for sled, and than any task of the store rests.
    let still = Duration::from_secs(3);
    let began = Instant::now();
    let (mut files, mut since) = (files_under(cluster.folder.path()), began);
    while since.elapsed() < still {
        for number in 1..=3 {
            cluster.store(number).keep_alive(lease).await.unwrap();
            cluster.store(number).get("a").await.unwrap();
        }
        let now = files_under(cluster.folder.path());
        if now != files {
            (files, since) = (now, Instant::now());
        }
        assert!(began.elapsed() < LIMIT, "something is written all the time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.end().await;
}
