//! Bytes that nothing names any more leave every disk: those of jobs that were forgotten, of runs that ended, of services and
//! workflows that were removed; and what is in use stays.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::{self, Input};
use pipes_chaos::damage::blobs;
use pipes_chaos::wait::{wait_for, wait_until};

/// The promise is a minute after the last name went.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// A job's input: more than lies in a key.
const LARGE: usize = 1 << 20;

/// Names of the blobs that lie on the disk of each agent.
fn on_disks(cluster: &Cluster) -> Result<Vec<BTreeSet<String>>> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let of = |node: &Path| -> Result<BTreeSet<String>> {
        Ok(blobs(node)?.iter().filter_map(|path| name(path)).collect())
    };
    cluster.nodes.iter().map(|node| of(&node.folder)).collect()
}

/// Waits until each agent has these blobs and no others.
fn wait_for_only(cluster: &Cluster, only: &BTreeSet<String>, what: &str) -> Result<()> {
    wait_for(what, GONE_WITHIN, || {
        let there = on_disks(cluster)?;
        ensure!(there.iter().all(|blobs| blobs == only), "{there:?}, not {only:?}");
        Ok(())
    })
}

/// Waits until all agents have the same blobs, this many; gives their names.
fn settled(cluster: &Cluster, count: usize) -> Result<BTreeSet<String>> {
    wait_for("all agents have all blobs", GONE_WITHIN, || {
        let there = on_disks(cluster)?;
        ensure!(
            there
                .iter()
                .all(|blobs| blobs.len() == count && *blobs == there[0]),
            "{there:?}"
        );
        Ok(there[0].clone())
    })
}

#[test]
fn a_large_job_that_was_forgotten_leaves_no_byte_on_any_disk() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["tr"])?;
    cluster.call(&["run", "-d", "--name", "upper", "--keep", "2s", "tr a-z A-Z"])?;
    let services = settled(&cluster, 1)?;
    let input = vec![b'a'; LARGE];
    let path = cluster.write("large", &input)?;
    let query = cluster.pipes(&["query", "-w", "upper", "-"]);
    let said = command::run(query, Input::Cat(path))?.success()?;
    ensure!(
        said.stdout == vec![b'A'; LARGE],
        "{} bytes came back",
        said.stdout.len()
    );
    wait_for_only(&cluster, &services, "input and result are gone from every disk")?;
    cluster.finish()
}

#[test]
fn what_a_run_uses_stays_while_it_runs_and_goes_when_nothing_names_it() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.call(&["cluster", "set", "warm=1s"])?;
    let go = cluster.file("go");
    let waits = format!(
        "#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.05; done\ncat words\n",
        go.display()
    );
    cluster.script("waits", &waits)?;
    let words = cluster.write("words", b"some words\n")?;
    let words = words.to_string_lossy().into_owned();
    let run = cluster.run("waits").options(&["-n", "--file", &words]).start()?;
    cluster.stages_run(1)?;
    let used = settled(&cluster, 2)?;
    // Nothing else names them now; that another is collected meanwhile shows that collectors are at work.
    cluster.script("other", "#!/bin/sh\n")?;
    cluster.call(&["service", "rm", "waits"])?;
    cluster.call(&["service", "rm", "other"])?;
    wait_for_only(
        &cluster,
        &used,
        "the other is gone, and what the run uses is there",
    )?;
    std::fs::write(&go, "")?;
    let done = run.finish()?.success()?;
    ensure!(done.output() == "some words\n", "{done:?}");
    wait_for_only(
        &cluster,
        &BTreeSet::new(),
        "the run's file and executable are gone",
    )?;
    cluster.finish()
}

#[test]
fn what_an_agent_that_was_away_has_left_is_collected_when_it_is_back() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.script("one", "#!/bin/sh\necho one\n")?;
    cluster.script("two", "#!/bin/sh\necho two\n")?;
    settled(&cluster, 2)?;
    let away = (cluster.leader()? + 1) % 3;
    cluster.kill(away)?;
    wait_until("it is gone", Duration::from_secs(20), || {
        !cluster.nodes[away].is_up()
    })?;
    let two = digest_of(&cluster, "two")?;
    cluster.call(&["service", "rm", "one"])?;
    let only = BTreeSet::from([two]);
    let others = |there: &[BTreeSet<String>]| {
        let mut there = there.iter().enumerate();
        there.all(|(node, blobs)| node == away || *blobs == only)
    };
    wait_for("the others have deleted it", GONE_WITHIN, || {
        let there = on_disks(&cluster)?;
        ensure!(others(&there) && there[away].len() == 2, "{there:?}");
        Ok(())
    })?;
    cluster.start_again()?;
    wait_for_only(&cluster, &only, "so has it")?;
    cluster.finish()
}

/// The digits of a service's newest version.
fn digest_of(cluster: &Cluster, service: &str) -> Result<String> {
    let listed = cluster.json(&["service", "ls"])?;
    let mut services = listed.as_array().context("a list")?.iter();
    let found = services.find(|listed| listed["name"] == service);
    let digest = found.context("it is listed")?["digest"].as_str();
    let digits = digest.and_then(|digest| digest.strip_prefix("sha256:"));
    Ok(digits.context("a digest")?.to_owned())
}
