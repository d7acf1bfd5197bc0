//! However much flows: the same bytes, in constant memory, by the shortest way.

use std::time::Duration;

use anyhow::{Context, Result};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::Input;
use pipes_chaos::{fault, proc, random, report::Report};

/// 1 GB; `scripts/chaos` sets PIPES_STREAM_BYTES to ten times as much.
const STREAM: u64 = 1_000_000_000;
/// What an agent or a shim may have had resident at its peak.
const MEMORY_MAX: u64 = 64 * 1024 * 1024;
/// What the coordinator and the last stage's node may exchange while bytes go by other links.
const STRAY_MAX: u64 = 1_000_000;
/// 1 GB takes 5 to 10 s here, ten of them a minute and a half.
const STREAM_LIMIT: Duration = Duration::from_secs(400);

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

fn peaks(cluster: &Cluster) -> Result<Vec<(String, u64)>> {
    let mut peaks = Vec::new();
    for node in &cluster.nodes {
        let agent = node.pid()?;
        peaks.push((format!("{}'s agent", node.name), proc::peak_memory(agent)?));
        for shim in proc::shims(agent) {
            peaks.push((format!("a shim of {}", node.name), proc::peak_memory(shim)?));
        }
    }
    Ok(peaks)
}

#[test]
fn a_gigabyte_is_counted_in_constant_memory() -> Result<()> {
    let total = number("PIPES_STREAM_BYTES", STREAM);
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "wc"])?;
    let before = cluster.status()?;
    let path = cluster.file("report.json");
    let running = cluster
        .run("cat | cat | wc -c")
        .options(&["--report", &path.to_string_lossy()])
        .input(Input::Repeat(b'x', total))
        .start()?;
    let done = running.finish_within(STREAM_LIMIT)?.success()?;
    println!("{total} bytes in {:?}", done.took);
    assert_eq!(done.output().trim(), total.to_string());
    let report = Report::read(&path)?;
    let mut nodes = report.nodes();
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes, ["n1", "n2", "n3"], "{}", report.whole);
    assert_eq!(report.stages[2].bytes_in, Some(total), "{}", report.whole);
    let peaks = peaks(&cluster)?;
    assert!(
        peaks.iter().filter(|(who, _)| who.starts_with("a shim")).count() >= 3,
        "no warm shims: {peaks:?}"
    );
    for (who, peak) in peaks {
        assert!(peak < MEMORY_MAX, "{who} had {} MiB", peak >> 20);
    }
    let after = cluster.status()?;
    assert_eq!(before.term, after.term, "{} and {}", before.whole, after.whole);
    cluster.finish()
}

#[test]
fn bytes_go_from_stage_to_stage_and_not_round_by_the_coordinator() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "wc"])?;
    let (one, three) = (&cluster.nodes[0].address, &cluster.nodes[2].address);
    let before = fault::traffic(one, three)?;
    let (done, report) = cluster
        .run("cat | cat | wc -c")
        .placed(&["n1", "n2", "n3"])
        .through(0)
        .input(Input::Repeat(b'x', 200_000_000))
        .reported()?;
    assert_eq!(done.success()?.output().trim(), "200000000");
    assert_eq!(report.nodes(), ["n1", "n2", "n3"], "{}", report.whole);
    let stray = fault::traffic(one, three)?.saturating_sub(before);
    assert!(stray < STRAY_MAX, "{stray} bytes went between n1 and n3");
    // The measure measures: the bytes did go from n1 to n2.
    let way = fault::traffic(one, &cluster.nodes[1].address)?;
    assert!(way > 200_000_000, "only {way} bytes went between n1 and n2");
    cluster.finish()
}

#[test]
fn random_data_of_every_awkward_size_arrives_unchanged() -> Result<()> {
    let seed = random::seed("random data");
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    let last = number("PIPES_RANDOM_BYTES", 64 * 1024 * 1024);
    for length in [0, 1, 65_535, 65_536, 65_537, last] {
        let data = random::bytes(seed ^ length, usize::try_from(length)?);
        for line in ["cat", "cat | cat | cat"] {
            let input = Input::Bytes(data.clone());
            let done = cluster
                .run(line)
                .input(input)
                .start()?
                .finish_within(STREAM_LIMIT)?
                .success()?;
            assert_eq!(done.stdout.len(), data.len(), "{line}");
            assert!(done.stdout == data, "{line}: {length} bytes arrived changed");
        }
    }
    cluster.finish()
}

#[test]
fn the_report_counts_what_went_in_and_out() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "head", "wc"])?;
    let (_, report) = cluster
        .run("cat | head -c 1000 | wc -c")
        .input(Input::Bytes(vec![b'x'; 5_000]))
        .reported()?;
    let first = report.stages.first().context("a stage")?;
    assert_eq!(first.bytes_in, Some(5_000), "{}", report.whole);
    assert_eq!(report.stages[1].bytes_out, Some(1_000), "{}", report.whole);
    assert_eq!(report.stages[2].bytes_in, Some(1_000), "{}", report.whole);
    cluster.finish()
}
