//! A disk that is full while an agent writes: its node says so, the others go on, and it comes back by itself once there is
//! room. On a follower and on the leader, under load.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::{Cluster, START_LIMIT};
use pipes_chaos::wait::wait_for;

/// From the room on until the node is up: its rests are 5 s at most.
const BACK_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn an_agent_whose_log_finds_no_room_says_so_and_is_whole_again_once_there_is_some() -> Result<()> {
    let cluster = Cluster::start_recorded(3, &[])?;
    let recording = cluster.recording.as_ref().context("a recording")?;
    for is_leader in [false, true] {
        let leader = cluster.leader()?;
        let full = if is_leader { leader } else { (leader + 1) % 3 };
        let name = &*cluster.nodes[full].name;
        let other = (full + 1) % 3;
        let value = |key: &str| wait_for("a read", START_LIMIT, || cluster.store(other)?.read(key));
        recording.set_faults(name, "write raft/log ENOSPC\n")?;

        // Acknowledged without it: by the others.
        let key = format!("test/{is_leader}");
        wait_for("a write is acknowledged", START_LIMIT, || {
            cluster.store(other)?.put(&key, b"1")
        })?;
        wait_for("the node says why it is out", START_LIMIT, || {
            // The fault may have come behind the write before: an idle log finds nothing.
            let _ = cluster.store(other)?.put("test/more", b"1");
            let nodes = cluster.json(&["node", "ls"])?;
            let nodes = nodes.as_array().context("an array")?;
            let shown = nodes
                .iter()
                .find(|node| node["name"] == name)
                .context("the node")?;
            let reason = shown["reason"].as_str().unwrap_or_default();
            ensure!(
                shown["state"] == "sick" && reason.contains("No space left"),
                "{shown}"
            );
            Ok(())
        })?;
        let status = wait_for("a leader", START_LIMIT, || {
            Ok(cluster.status()?.whole.to_string())
        })?;
        ensure!(status.contains("No space left"), "{status}");

        recording.set_faults(name, "")?;
        cluster.all_up(BACK_LIMIT)?;
        let held = wait_for("its own replica has it", START_LIMIT, || {
            let mut client = cluster.store(full)?;
            let revision = client.revision()?;
            let replica = client.replica(revision)?;
            ensure!(
                replica.iter().any(|stored| stored.key == key.as_bytes()),
                "not yet"
            );
            Ok(replica.len())
        })?;
        ensure!(held > 0 && value(&key)?.is_some(), "{key} is lost");
        ensure!(
            !cluster.nodes[full].log().contains("panicked"),
            "{}",
            cluster.nodes[full].log()
        );
    }
    let checked = cluster.call(&["cluster", "check"])?;
    ensure!(checked.contains("n1, n2, n3 hold the same"), "{checked}");
    cluster.finish()
}
