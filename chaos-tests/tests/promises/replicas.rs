//! Daemon workflows keep their replicas: spread, elsewhere when a node is lost, even again when it is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::Input;
use pipes_chaos::wait::wait_for;

/// Within this a wish is met where nothing is lost.
const MET_LIMIT: Duration = Duration::from_secs(10);
/// Within this what a lost node had is elsewhere.
const ELSEWHERE_LIMIT: Duration = Duration::from_secs(5);
/// Within this it is even again after a node is back, of which it has to be well for half a minute.
const EVEN_LIMIT: Duration = Duration::from_secs(60);

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
fn replicas_are_spread_and_elsewhere_when_a_node_is_lost_and_back_without_failing_a_run() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "sort"])?;
    let begun = [
        "run",
        "-d",
        "--name",
        "words",
        "--port",
        "none",
        "--replicas",
        "2=5",
        "cat | sort",
    ];
    cluster.call(&begun)?;
    even(&cluster, "sort", 5, MET_LIMIT)?;
    even(&cluster, "cat", 1, MET_LIMIT)?;
    cluster.kill(2)?;
    even(&cluster, "sort", 5, ELSEWHERE_LIMIT)?;
    even(&cluster, "cat", 1, ELSEWHERE_LIMIT)?;
    cluster.start_again()?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let runner = scope.spawn(|| -> Result<usize> {
            let mut runs = 0;
            while !is_over.load(Ordering::Relaxed) {
                let input = Input::Bytes(b"b\na\n".to_vec());
                let done = cluster
                    .run("cat | sort")
                    .input(input)
                    .through(runs % 2)
                    .finish()?
                    .success()?;
                ensure!(done.output() == "a\nb\n", "{:?}", done.output());
                runs += 1;
            }
            Ok(runs)
        });
        let evened = even(&cluster, "sort", 5, EVEN_LIMIT);
        is_over.store(true, Ordering::Relaxed);
        let runs = runner
            .join()
            .map_err(|_| anyhow::anyhow!("the runner panicked"))??;
        println!("even again: {:?}, under {runs} runs", evened?);
        Ok(())
    })?;
    cluster.call(&["scale", "words", "2=2"])?;
    even(&cluster, "sort", 2, MET_LIMIT)?;
    cluster.call(&["stop", "words"])?;
    even(&cluster, "sort", 0, MET_LIMIT)?;
    cluster.call(&["start", "words"])?;
    even(&cluster, "sort", 2, MET_LIMIT)?;
    cluster.finish()
}
