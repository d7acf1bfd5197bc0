//! Every way in which a job can come to nothing has its state, its status and, where that does not say it, a reason.

use std::time::Duration;

use anyhow::{Result, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::http::{self, Request};
use pipes_chaos::load::jobs::PORT;
use serde_json::Value;

/// How long a job of these may take.
const ENDED_LIMIT: Duration = Duration::from_secs(30);

/// A query of a workflow, once it has ended.
fn ended(cluster: &Cluster, workflow: &str) -> Result<Value> {
    let address = &cluster.nodes[0].address;
    let target = format!("/{workflow}/");
    let id = http::ask(address, PORT, &Request::post(&target, b"some data\n"))?.job()?;
    let target = format!("/{workflow}/jobs/{id}/?wait={}", ENDED_LIMIT.as_secs());
    http::ask(address, PORT, &Request::get(&target))?
        .expect(200)?
        .json()
}

#[test]
fn every_way_a_job_can_fail_has_its_status_and_its_reason() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat", "sh"])?;
    let begin = |name: &str, options: &[&str], line: &str| {
        let begin = ["run", "-d", "--port", "none", "--name", name];
        cluster.call(&[&begin, options, &[line]].concat())
    };
    let fills = "sh -c 'head -c 30000000 /dev/zero >file; sleep 20'";
    for (name, options, line, status, attempt, reason) in [
        (
            "fails",
            &[][..],
            "sh -c 'exit 3' | sh -c 'cat; exit 4'",
            4,
            1,
            None,
        ),
        ("again", &["--retries", "1"], "sh -c 'exit 3'", 3, 2, None),
        ("ends", &[], "sh -c 'kill -9 $$'", 137, 1, None),
        (
            "slow",
            &["--timeout", "1s"],
            "sh -c 'sleep 20'",
            124,
            1,
            Some("timeout"),
        ),
        (
            "large",
            &["--body", "1000"],
            "sh -c 'yes | head -c 2000'",
            125,
            1,
            Some("result is larger"),
        ),
        ("fills", &["--scratch", "10MB"], fills, 125, 1, Some("scratch")),
    ] {
        begin(name, options, line)?;
        let job = ended(&cluster, name)?;
        ensure!(
            job["state"] == "failed" && job["status"] == status && job["attempt"] == attempt,
            "{name}: {job}"
        );
        let said = job["reason"].as_str();
        ensure!(
            said.is_some() == reason.is_some()
                && reason.is_none_or(|part| said.unwrap_or_default().contains(part)),
            "{name}: {said:?} without {reason:?}"
        );
    }
    // What is cancelled by its workflow's removal is gone with it.
    begin("gone", &[], "sh -c 'sleep 60'")?;
    let asked = http::ask(&cluster.nodes[0].address, PORT, &Request::post("/gone/", b""))?.job()?;
    cluster.call(&["rm", "--force", "gone"])?;
    let left = cluster.call(&["jobs", "-q"])?;
    ensure!(!left.contains(&asked), "{asked} is still listed");
    cluster.no_stages(ENDED_LIMIT)?;
    cluster.finish()
}
