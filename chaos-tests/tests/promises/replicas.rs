//! Daemon workflows keep their replicas: spread, elsewhere when a node is lost, even again when it is back.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::{self, Input};
use pipes_chaos::scenario::queries;
use pipes_chaos::wait::wait_for;

/// Within this a wish is met where nothing is lost.
const MET_LIMIT: Duration = Duration::from_secs(10);
/// Within this what a lost node had is elsewhere.
const ELSEWHERE_LIMIT: Duration = Duration::from_secs(5);
/// Within this it is even again after a node is back, of which it has to be well for half a minute.
const EVEN_LIMIT: Duration = Duration::from_secs(60);

/// When an update whose stage cannot become ready is given up: a minute, and what its command takes.
const UPDATE_LIMIT: Duration = Duration::from_secs(75);

/// Waits until the nodes keep so many replicas of a service in all, on any two of those that are up as many, but for one.
fn even(cluster: &Cluster, service: &str, count: u64, limit: Duration) -> Result<Vec<u64>> {
    wait_for(&format!("{count} replicas of {service}, spread"), limit, || {
        let up = cluster.nodes.iter().filter(|node| node.is_up());
        let kept: Vec<u64> = up
            .map(|node| node.replicas_kept(service))
            .collect::<Result<_>>()?;
        let (most, least) = (kept.iter().max(), kept.iter().min());
        let is_even = most.zip(least).is_some_and(|(most, least)| most - least <= 1);
        if kept.iter().sum::<u64>() != count || !is_even {
            bail!("they are {kept:?}");
        }
        Ok(kept)
    })
}

#[test]
fn no_accepted_job_is_lost_while_its_workflow_is_scaled_stopped_started_and_updated() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "tr"])?;
    cluster.call(&[
        "run",
        "-d",
        "--name",
        "words",
        "--port",
        "none",
        "cat | tr a-z A-Z",
    ])?;
    let line =
        |cluster: &Cluster| Ok::<_, anyhow::Error>(cluster.json(&["inspect", "words"])?["line"].clone());
    let count = queries::meanwhile(&cluster, "words", || {
        cluster.call(&["scale", "words", "2=5"])?;
        even(&cluster, "tr", 5, MET_LIMIT)?;
        cluster.call(&["stop", "words"])?;
        even(&cluster, "tr", 0, MET_LIMIT)?;
        cluster.call(&["start", "words"])?;
        even(&cluster, "tr", 5, MET_LIMIT)?;
        cluster.call(&["update", "words", "cat | cat | tr a-z A-Z"])?;
        cluster.call(&["update", "words", "--rollback"])?;
        ensure!(line(&cluster)? == "cat | tr a-z A-Z");
        // Its stage has nowhere to become ready.
        cluster.kill(2)?;
        let placed = ["update", "words", "--place", "1=n3", "cat | tr a-z A-Z | cat"];
        let begun = command::start(cluster.pipes(&placed), Input::None)?;
        let refused = begun.finish_within(UPDATE_LIMIT)?.expect(1)?;
        ensure!(
            refused.errors().contains("what ran before goes on"),
            "{refused:?}"
        );
        ensure!(line(&cluster)? == "cat | tr a-z A-Z");
        cluster.start_again()
    })?;
    ensure!(count > 100, "{count} queries came through");
    cluster.finish()
}

#[test]
fn replicas_are_spread_and_elsewhere_when_a_node_is_lost_and_back_without_failing_a_job() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "tr"])?;
    let begun = [
        "run",
        "-d",
        "--name",
        "words",
        "--port",
        "none",
        "--replicas",
        "2=5",
        "cat | tr a-z A-Z",
    ];
    cluster.call(&begun)?;
    even(&cluster, "tr", 5, MET_LIMIT)?;
    even(&cluster, "cat", 1, MET_LIMIT)?;
    queries::meanwhile(&cluster, "words", || {
        cluster.kill(2)?;
        even(&cluster, "tr", 5, ELSEWHERE_LIMIT)?;
        even(&cluster, "cat", 1, ELSEWHERE_LIMIT)?;
        cluster.start_again()?;
        println!("even again: {:?}", even(&cluster, "tr", 5, EVEN_LIMIT)?);
        Ok(())
    })?;
    cluster.call(&["scale", "words", "2=2"])?;
    even(&cluster, "tr", 2, MET_LIMIT)?;
    cluster.call(&["stop", "words"])?;
    even(&cluster, "tr", 0, MET_LIMIT)?;
    cluster.call(&["start", "words"])?;
    even(&cluster, "tr", 2, MET_LIMIT)?;
    cluster.finish()
}
