//! `pipes cluster check`: what changed on disk is found, also where its times say that nothing did.

use std::fs;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::damage::{blobs, find, flip, last, put_back_times, segments, state};

#[test]
fn what_changed_on_disk_behind_everybodys_back_is_found_by_a_check() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.script("greet", "#!/bin/sh\necho hello\n")?;
    let mut client = cluster.store(0)?;
    for number in 0..40 {
        client.put(&format!("test/{number:02}"), format!("{number:020}").as_bytes())?;
    }
    let found = cluster.call(&["cluster", "check"])?;
    ensure!(found.contains("n1, n2, n3 hold the same"), "{found}");

    // A byte of a value, in each file that has it; a byte of a blob; times as they were.
    let follower = (cluster.leader()? + 1) % 3;
    let folder = &cluster.nodes[follower].folder;
    for (name, path) in [
        ("log", last(segments(folder)?)?),
        ("state", state(folder)?.join("blocks.1")),
    ] {
        let sound = fs::read(&path)?;
        let value = format!("{:020}", 7);
        let place =
            find(&sound, value.as_bytes()).with_context(|| format!("{value} in {}", path.display()))?;
        put_back_times(&path, || flip(&path, |_| place + 3))?;
        let done = cluster.attempt(&["cluster", "check"])?;
        let named = format!("{} is damaged", cluster.nodes[follower].name);
        ensure!(
            done.code() == 1 && done.errors().contains(&named),
            "{name}: {} {}",
            done.output(),
            done.errors()
        );
        put_back_times(&path, || flip(&path, |_| place + 3))?;
    }
    for path in blobs(folder)? {
        put_back_times(&path, || flip(&path, |end| end / 2))?;
    }
    let done = cluster.attempt(&["cluster", "check"])?;
    ensure!(
        done.code() == 1 && done.errors().contains("was damaged, and is fetched anew"),
        "{}",
        done.errors()
    );
    cluster.call(&["cluster", "check"])?;
    cluster.finish()
}
