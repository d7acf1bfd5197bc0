//! Log and history are bounded in octets, whatever is written; the state gives its space back.

use std::path::Path;

use pipes_raft::{Consistency, Error, Range};

use crate::cluster::{Cluster, wait_until};

const MIB: u64 = 1024 * 1024;

fn octets(folder: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = files.flatten().map(|file| match file.metadata() {
        Ok(known) if known.is_dir() => octets(&file.path()),
        Ok(known) => known.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// 100 kB that do not compress.
fn value(mut seed: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(100_000);
    while value.len() < 100_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        value.extend((seed >> 16).to_le_bytes());
    }
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_overwritten_takes_no_more_than_the_bounds_allow() {
    let cluster = Cluster::with(1, |mut options| {
        options.snapshot_bytes = 16 * MIB;
        options.history_bytes = 16 * MIB;
        options
    })
    .await;
    let store = cluster.store(1);
    for round in 0..500 {
        store.put("key", value(round), None).await.unwrap();
    }
    let folder = cluster.folder(1);
    // The log: what brings about a snapshot, what is kept behind it, and a segment that is purged only whole.
    wait_until("the log is purged", || octets(&folder.join("log")) < 40 * MIB).await;
    // History of half the bound and a tenth; a block file of which less than half is left, and one being written to.
    wait_until("space has come back", || {
        octets(&folder.join("snapshots")) < 20 * MIB && octets(&folder.join("state.1")) < 38 * MIB
    })
    .await;
    // At the latest where it is over the bound by a tenth, the older half of it goes: 176 values are never kept.
    let old = Range {
        revision: 100,
        ..Range::key("key")
    };
    let compacted = store.range(old, Consistency::Linearizable).await;
    assert!(
        matches!(compacted, Err(Error::Compacted { revision }) if revision > 310),
        "{compacted:?}"
    );
    cluster.close(1).await;
    cluster.open(1).await;
    let kept = cluster.store(1).get("key").await.unwrap().unwrap();
    assert_eq!(kept.value, value(499));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_sparse_file_is_found_where_it_was_written_anew() {
    let cluster = Cluster::with(1, |mut options| {
        options.history_bytes = 8 * MIB;
        options
    })
    .await;
    let store = cluster.store(1);
    for round in 0..400u64 {
        // One of twenty stays.
        let key = if round.is_multiple_of(20) {
            format!("kept/{round}")
        } else {
            "overwritten".into()
        };
        store.put(key, value(round), None).await.unwrap();
    }
    let state = cluster.folder(1).join("state.1");
    wait_until("space has come back", || octets(&state) < 24 * MIB).await;
    let check = async |store: &pipes_raft::Store| {
        let kept = store.prefix("kept/").await.unwrap();
        assert_eq!(kept.len(), 20);
        for kv in kept {
            let round = String::from_utf8_lossy(&kv.key["kept/".len()..]).parse().unwrap();
            assert!(kv.value == value(round), "{round}");
        }
    };
    check(&store).await;
    cluster.close(1).await;
    cluster.open(1).await;
    check(&cluster.store(1)).await;
    assert!(
        !cluster.folder(1).join("state.1.bad").exists(),
        "it was read as it lies there"
    );
    cluster.end().await;
}
