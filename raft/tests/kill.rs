//! A process that is killed, `kill -9`, while it writes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pipes_raft::{
    Class, Compare, CompareOp, Node, Op, Options, Peer, Store, Target, Transport, TransportError, Txn,
};

use crate::cluster::address;

/// Names the folder to the process that is killed.
const FOLDER: &str = "PIPES_RAFT_KILLED_FOLDER";

struct Nobody;

#[async_trait::async_trait]
impl Transport for Nobody {
    async fn call(&self, _: &Peer, _: Class, _: Vec<u8>, _: Duration) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::NotSent("there is nobody".into()))
    }
}

async fn open(folder: &Path) -> Node {
    let mut options = Options::new(folder, "killed");
    // Snapshots and purges all the time.
    options.snapshot_entries = 100;
    Node::open(options, None, Arc::new(Nobody)).await.unwrap()
}

/// How many writes there were.
async fn written(store: &Store) -> usize {
    match store.get("n").await.unwrap() {
        Some(count) => String::from_utf8(count.value).unwrap().parse().unwrap(),
        None => 0,
    }
}

/// Ends the process in any case.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("a process that can be killed");
        self.0.wait().expect("a process that has ended");
    }
}

/// Writes until it is killed. Each write decides by the one before: what is applied again after the kill must meet the
/// same state.
async fn write_on(folder: &Path) {
    let node = open(folder).await;
    if !node.has_log() {
        node.initialize(address(1)).await.unwrap();
    }
    let store = node.store();
    for at in written(&store).await.. {
        let is_next = match at {
            0 => Compare::absent("n"),
            _ => Compare::key("n", CompareOp::Equal, Target::Value(at.to_string().into())),
        };
        let txn = Txn {
            compares: vec![is_next],
            success: vec![
                Op::put("n", (at + 1).to_string()),
                Op::put(format!("k{at:06}"), vec![b'x'; 200]),
            ],
            failure: vec![],
        };
        let result = store.txn(txn).await.unwrap();
        assert!(result.succeeded);
        println!("written {}", at + 1);
        if at % 64 == 63 {
            store.compact(result.revision).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_that_was_acknowledged() {
    // It starts itself once more, as the process that is killed.
    if let Some(folder) = std::env::var_os(FOLDER) {
        return write_on(folder.as_ref()).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    // The last round is longer than changes wait for sled.
    for round in [1, 70, 130, 450, 2500] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "kill::a_killed_process_loses_nothing_that_was_acknowledged",
            ])
            .arg("--nocapture")
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut killed = Killed(child);
        let lines = BufReader::new(killed.0.stdout.take().unwrap()).lines();
        let numbers = lines.filter_map(|line| line.unwrap().strip_prefix("written ")?.parse().ok());
        acknowledged = numbers.take(round).last().expect("a process that writes");
        drop(killed);

        let node = open(folder.path()).await;
        let store = node.store();
        let written = written(&store).await;
        assert!(
            written >= acknowledged,
            "{acknowledged} were acknowledged, {written} are there"
        );
        assert_eq!(store.prefix("k").await.unwrap().len(), written);
        node.shutdown().await;
    }
    assert!(acknowledged >= 3000);
    let snapshots = std::fs::read_dir(folder.path().join("snapshots")).unwrap();
    let is_whole = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".snap");
    let whole = snapshots.filter(|file| is_whole(file.as_ref().unwrap().file_name()));
    assert_eq!(whole.count(), 1, "the log was purged meanwhile");
}
