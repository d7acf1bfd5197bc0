//! Files that are damaged or gone: each row of the table of `replica/damage.rs`, in whole groups.

use std::path::{Path, PathBuf};

use pipes_raft::Error;

use crate::cluster::{Cluster, wait_until};

async fn put(cluster: &Cluster, number: u16, from: usize, to: usize) {
    for at in from..to {
        let store = cluster.store(number);
        store
            .put(format!("k{at:04}"), at.to_string(), None)
            .await
            .unwrap();
    }
}

async fn count(cluster: &Cluster, number: u16) -> usize {
    cluster.store(number).prefix("k").await.unwrap().len()
}

/// A node alone with fifty writes, closed.
async fn closed() -> Cluster {
    let cluster = Cluster::of(1).await;
    put(&cluster, 1, 0, 50).await;
    cluster.close(1).await;
    cluster
}

fn files(dir: &Path, is_one: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|path| is_one(&path.file_name().unwrap().to_string_lossy()))
        .collect()
}

fn remove_states(folder: &Path) {
    for state in files(folder, |name| name.starts_with("state.")) {
        std::fs::remove_dir_all(state).unwrap();
    }
}

fn flip(path: &Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Where the octets that were written end: behind them the log has room.
fn end_of(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap();
    1 + bytes.iter().rposition(|octet| *octet != 0).unwrap()
}

/// That it opens no replica, and says `named` and `lost` in one sentence with what to do. Again, too: a start that
/// failed must not make of it what the next takes for a beginning.
async fn is_refused(cluster: &Cluster, named: &str, lost: &str) {
    for _ in 0..2 {
        let node = cluster.open(1).await;
        let why = node
            .status()
            .sick
            .unwrap_or_else(|| panic!("it opened without {named}"));
        assert!(why.contains(named) && why.contains(lost), "{why}");
        assert!(
            why.contains("`pipes node reset n1`") && !why.contains('\n'),
            "{why}"
        );
        assert!(!node.has_log());
        let begun = node.initialize(crate::cluster::address(1)).await;
        assert!(matches!(begun, Err(Error::Corrupt(_))), "{begun:?}");
        cluster.close(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_is_damaged_in_any_way_is_refused() {
    type Damage = fn(&Path);
    let damages: [Damage; 5] = [
        |path| flip(path, |_| 0),
        |path| flip(path, |len| len / 2),
        |path| flip(path, |len| len - 1),
        |path| std::fs::write(path, &std::fs::read(path).unwrap()[..20]).unwrap(),
        |path| std::fs::write(path, "").unwrap(),
    ];
    for damage in damages {
        let cluster = closed().await;
        damage(&cluster.folder(1).join("identity"));
        is_refused(&cluster, "/identity", "damaged").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_is_gone_is_no_new_node_while_anything_lies_beside_it() {
    let cluster = closed().await;
    let folder = cluster.folder(1);
    std::fs::remove_file(folder.join("identity")).unwrap();
    is_refused(&cluster, "/identity", "it is gone").await;
    // The log as well: the state alone tells.
    std::fs::remove_dir_all(folder.join("log")).unwrap();
    is_refused(&cluster, "/identity", "it is gone").await;
    remove_states(&folder);
    assert_eq!(cluster.open(1).await.id(), None, "an empty folder is a new node");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_or_emptied_is_no_beginning() {
    type Damage = fn(&Path);
    let damages: [Damage; 4] = [
        |log| std::fs::remove_dir_all(log).unwrap(),
        |log| std::fs::remove_file(log.join("00000001.seg")).unwrap(),
        |log| std::fs::write(log.join("00000001.seg"), "").unwrap(),
        |log| std::fs::write(log.join("00000001.seg"), vec![0; 4096]).unwrap(),
    ];
    for damage in damages {
        let cluster = closed().await;
        // Nothing but the identity tells that there was one.
        remove_states(&cluster.folder(1));
        damage(&cluster.folder(1).join("log"));
        is_refused(&cluster, "/log", "the log of this node is gone").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_another_beginning_is_refused_by_the_state_beside_it() {
    let cluster = closed().await;
    let log = cluster.folder(1).join("log");
    std::fs::remove_dir_all(&log).unwrap();
    let other = Cluster::empty(|options| options);
    drop(other.open(1).await);
    other
        .node(1)
        .initialize(crate::cluster::address(1))
        .await
        .unwrap();
    other.close(1).await;
    std::fs::rename(other.folder(1).join("log"), &log).unwrap();
    is_refused(&cluster, "/log", "what was acknowledged between is lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_damaged_before_its_last_frame_is_refused() {
    let places: [fn(usize) -> usize; 3] = [|_| 0, |_| 30, |end| end / 2];
    for place in places {
        let cluster = closed().await;
        let segment = cluster.folder(1).join("log/00000001.seg");
        let end = end_of(&segment);
        flip(&segment, |_| place(end));
        is_refused(&cluster, "/00000001.seg", "damaged at octet").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_tail_is_refused_by_the_state_beside_it() {
    let cluster = closed().await;
    let segment = cluster.folder(1).join("log/00000001.seg");
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..end_of(&segment) / 2]).unwrap();
    is_refused(&cluster, "/log", "what was acknowledged between is lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_damaged_anywhere_or_cut_short_is_made_anew() {
    type Damage = fn(&Path);
    let damages: [Damage; 5] = [
        |path| flip(path, |_| 3),
        |path| flip(path, |len| len / 3),
        |path| std::fs::write(path, &std::fs::read(path).unwrap()[..100]).unwrap(),
        |path| std::fs::write(path, "").unwrap(),
        |path| std::fs::remove_file(path).unwrap(),
    ];
    for damage in damages {
        let cluster = closed().await;
        for state in files(&cluster.folder(1), |name| name.starts_with("state.")) {
            damage(&state.join("db"));
        }
        cluster.open(1).await;
        assert_eq!(count(&cluster, 1).await, 50);
        cluster.end().await;
    }
}

fn snapshot_often(mut options: pipes_raft::Options) -> pipes_raft::Options {
    options.snapshot_entries = 100;
    options
}

fn snapshots(cluster: &Cluster, number: u16) -> Vec<PathBuf> {
    files(&cluster.folder(number).join("snapshots"), |name| {
        name.ends_with(".snap")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_damaged_is_made_anew_while_the_state_has_it_all_and_else_refused() {
    let cluster = Cluster::with(1, snapshot_often).await;
    put(&cluster, 1, 0, 350).await;
    wait_until("there is a snapshot", || !snapshots(&cluster, 1).is_empty()).await;
    cluster.close(1).await;
    let before = snapshots(&cluster, 1);
    flip(&before[0], |len| len / 2);
    cluster.open(1).await;
    assert_eq!(count(&cluster, 1).await, 350);
    wait_until("there is another", || {
        let now = snapshots(&cluster, 1);
        now.len() == 1 && now != before
    })
    .await;
    // By the time there is a further one the log is purged up to those before it.
    let before = snapshots(&cluster, 1);
    put(&cluster, 1, 350, 500).await;
    wait_until("there is a further one", || snapshots(&cluster, 1) != before).await;
    cluster.close(1).await;

    flip(&snapshots(&cluster, 1)[0], |len| len - 1);
    remove_states(&cluster.folder(1));
    is_refused(&cluster, "n1", "no snapshot or state reaches that far").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_newest_snapshot_damaged_an_older_one_that_ends_before_the_log_begins_keeps_nobody_out() {
    let cluster = Cluster::with(1, snapshot_often).await;
    put(&cluster, 1, 0, 120).await;
    wait_until("there is a snapshot", || !snapshots(&cluster, 1).is_empty()).await;
    let older = snapshots(&cluster, 1).remove(0);
    let bytes = std::fs::read(&older).unwrap();
    put(&cluster, 1, 120, 450).await;
    wait_until("there is a later one", || {
        !snapshots(&cluster, 1).iter().any(|path| *path <= older)
    })
    .await;
    cluster.close(1).await;
    // As a kill leaves it that came before the older one was removed.
    for path in snapshots(&cluster, 1) {
        flip(&path, |len| len / 2);
    }
    std::fs::write(&older, bytes).unwrap();
    cluster.open(1).await;
    cluster.leader(1, None).await;
    // It has nothing, and is given a snapshot and what follows it.
    cluster.join(2).await;
    assert_eq!(count(&cluster, 2).await, 450);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_damaged_on_a_running_leader_keeps_no_follower_out() {
    let cluster = Cluster::with(3, snapshot_often).await;
    let leader = cluster.leader(1, None).await;
    let follower = 1 + leader % 3;
    cluster.close(follower).await;
    put(&cluster, leader, 0, 450).await;
    wait_until("there is a snapshot", || !snapshots(&cluster, leader).is_empty()).await;
    let damaged = snapshots(&cluster, leader).remove(0);
    // In place: the leader has the file open.
    let file = std::fs::OpenOptions::new().write(true).open(&damaged).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a; 64], file.metadata().unwrap().len() / 2).unwrap();
    let node = cluster.open(follower).await;
    wait_until("the follower has it all", || {
        node.status().revision == cluster.status(leader).revision
    })
    .await;
    assert_eq!(count(&cluster, follower).await, 450);
    cluster.end().await;
}
