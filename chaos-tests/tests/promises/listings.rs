//! The fields of each object that commands show as JSON: added, never renamed.

use anyhow::{Context, Result};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::Input;
use serde_json::Value;

const NODE: &[&str] = &["name", "id", "address", "role", "state", "reason", "version"];
const SERVICE: &[&str] = &["name", "digest", "size", "kind", "built"];
const RUN: &[&str] = &["id", "line", "state", "status", "started", "finished", "stages"];
const STAGE: &[&str] = &[
    "stage",
    "service",
    "args",
    "node",
    "status",
    "signal",
    "bytes_in",
    "bytes_out",
    "started",
    "finished",
];
const CLUSTER: &[&str] = &["name", "id", "current", "leader", "term", "revision", "nodes"];
const CONTEXT: &[&str] = &["name", "cluster", "current", "servers"];

fn has(object: &Value, fields: &[&str]) {
    let Some(map) = object.as_object() else {
        panic!("no object: {object}")
    };
    for field in fields {
        assert!(map.contains_key(*field), "no field {field} in {object}");
    }
}

fn first(listing: &Value) -> Result<&Value> {
    listing
        .as_array()
        .with_context(|| format!("no array: {listing}"))?
        .first()
        .context("an empty listing")
}

/// RFC 3339, UTC.
fn is_a_time(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z'))
}

#[test]
fn nodes_show_their_fields() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let nodes = cluster.json(&["node", "ls"])?;
    assert_eq!(nodes.as_array().map(Vec::len), Some(3), "{nodes}");
    for node in nodes.as_array().into_iter().flatten() {
        has(node, NODE);
        assert_eq!(node["state"], "up", "{node}");
        let address = node["address"].as_str().unwrap_or_default();
        assert!(!address.contains(':'), "an address with a port: {node}");
    }
    let leaders = nodes
        .as_array()
        .into_iter()
        .flatten()
        .filter(|node| node["role"] == "leader")
        .count();
    assert_eq!(leaders, 1, "{nodes}");
    let ids = cluster.call(&["node", "ls", "-q"])?;
    assert_eq!(ids.lines().count(), 3, "{ids}");
    cluster.kill(2)?;
    pipes_chaos::wait::wait_for(
        "the dead node is seen to be down",
        std::time::Duration::from_secs(8),
        || {
            let nodes = cluster.json(&["node", "ls"])?;
            let down = nodes
                .as_array()
                .into_iter()
                .flatten()
                .any(|node| node["name"] == "n3" && node["state"] == "down");
            anyhow::ensure!(down, "{nodes}");
            Ok(())
        },
    )?;
    cluster.finish()
}

#[test]
fn services_show_their_fields() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let printed = cluster.call(&["build", "/bin/cat"])?;
    let words: Vec<&str> = printed.split_whitespace().collect();
    assert_eq!(words.len(), 3, "`service digest size` a line: {printed:?}");
    let services = cluster.json(&["service", "ls"])?;
    let service = first(&services)?;
    has(service, SERVICE);
    assert_eq!(service["name"], "cat");
    assert_eq!(service["kind"], "elf");
    assert_eq!(
        service["size"].as_u64(),
        Some(std::fs::metadata("/bin/cat")?.len())
    );
    let digest = service["digest"].as_str().unwrap_or_default();
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{service}");
    assert!(is_a_time(&service["built"]), "{service}");
    has(&cluster.json(&["inspect", "service/cat"])?, SERVICE);
    cluster.script("greet", "#!/bin/sh\necho hello\n")?;
    assert_eq!(cluster.json(&["inspect", "greet"])?["kind"], "script");
    cluster.call(&["service", "rm", "greet"])?;
    assert_eq!(cluster.call(&["service", "ls", "-q"])?.trim(), "cat");
    cluster.finish()
}

#[test]
fn runs_show_their_fields() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "sh"])?;
    let (done, report) = cluster
        .run("cat | sh -c 'cat; kill -9 $$'")
        .input(Input::Bytes(b"12".to_vec()))
        .reported()?;
    assert_eq!(done.code(), 137);
    let run = pipes_chaos::wait::wait_for("the run is listed", std::time::Duration::from_secs(5), || {
        let runs = cluster.json(&["ps", "-a"])?;
        let found = runs
            .as_array()
            .into_iter()
            .flatten()
            .find(|run| run["id"] == report.id())
            .cloned();
        found.with_context(|| format!("{} is not in {runs}", report.id()))
    })?;
    for run in [&run, &report.whole, &cluster.json(&["inspect", report.id()])?] {
        has(run, RUN);
        assert!(run["id"].as_str().unwrap_or_default().starts_with('r'), "{run}");
        assert_eq!(run["state"], "failed", "{run}");
        assert_eq!(run["status"], 137, "{run}");
        assert!(is_a_time(&run["started"]) && is_a_time(&run["finished"]), "{run}");
        let stages = run["stages"].as_array().context("stages")?;
        assert_eq!(stages.len(), 2, "{run}");
        for (number, stage) in stages.iter().enumerate() {
            has(stage, STAGE);
            assert_eq!(stage["stage"].as_u64(), Some(number as u64 + 1), "{run}");
        }
        assert_eq!(stages[0]["signal"], Value::Null, "{run}");
        assert_eq!(stages[1]["signal"], 9, "{run}");
        assert_eq!(stages[1]["bytes_in"], 2, "{run}");
    }
    // A unique beginning of the id is enough.
    let beginning = &report.id()[..report.id().len() - 2];
    assert_eq!(cluster.json(&["inspect", beginning])?["id"], report.id());
    cluster.finish()
}

/// Twelve runs whose lines are as long as lines may be; a run of one has it twice, in its line and in its stage.
#[test]
fn runs_of_long_lines_are_listed_page_by_page() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["true"])?;
    let line = format!("true {}", "x".repeat(130_000));
    for _ in 0..12 {
        cluster.run(&line).finish()?.success()?;
    }
    let all = cluster.json(&["ps", "-a"])?;
    let all = all.as_array().context("an array")?;
    assert_eq!(all.len(), 12);
    assert!(all.iter().all(|run| run["line"] == line.as_str()));
    let mut session = cluster.nodes[0].operator()?;
    let (mut pages, mut ids) = (Vec::new(), Vec::new());
    while ids.len() < 12 {
        let mut asked = vec![("all", true.into())];
        asked.extend(ids.last().map(|id: &String| ("after", id.as_str().into())));
        let page = session.call("pipes.run.list", vec![], asked)?.done()?;
        let page = page.first().and_then(|page| page.as_array()).context("a page")?;
        assert!(!page.is_empty(), "after {ids:?}");
        pages.push(page.len());
        ids.extend(
            page.iter()
                .filter_map(|run| run["id"].as_str())
                .map(str::to_owned),
        );
    }
    assert_eq!(pages, [4, 4, 4], "a mebibyte at a time");
    let listed: Vec<&str> = all.iter().filter_map(|run| run["id"].as_str()).collect();
    assert_eq!(ids, listed);
    cluster.finish()
}

#[test]
fn clusters_and_contexts_show_their_fields() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let status = cluster.json(&["cluster", "status"])?;
    has(&status, CLUSTER);
    assert_eq!(
        (&status["name"], &status["current"]),
        (&Value::from("local"), &Value::from(true)),
        "{status}"
    );
    has(first(&cluster.json(&["cluster", "ls"])?)?, CLUSTER);
    let contexts = cluster.json(&["context", "ls"])?;
    has(first(&contexts)?, CONTEXT);
    assert_eq!(first(&contexts)?["name"], "local");
    cluster.finish()
}
