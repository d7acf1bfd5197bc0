//! `pipes-bench [TOPIC...]`: figures of Pipes on this machine, all from one run. Topics: idle, throughput, latency, calls,
//! puts, jobs, pipe-http, starved; all of them unless some are named.

use anyhow::Result;
use pipes_chaos::bench::{Table, calls, idle, jobs, latency, pipe_http, puts, starved, throughput};
use pipes_chaos::cluster::Cluster;

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |topic: &str| wanted.is_empty() || wanted.iter().any(|want| want == topic);
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "echo"])?;
    let mut table = Table::default();
    Table::head();
    if is_wanted("idle") {
        idle::measure(&cluster, &mut table)?;
    }
    if is_wanted("throughput") {
        throughput::measure(&cluster, &mut table)?;
    }
    if is_wanted("latency") {
        latency::measure(&cluster, &mut table)?;
    }
    if is_wanted("calls") {
        calls::measure(&cluster, &mut table)?;
    }
    if is_wanted("puts") {
        puts::measure(&cluster, &mut table)?;
    }
    if is_wanted("jobs") {
        jobs::measure(&cluster, &mut table)?;
    }
    if is_wanted("pipe-http") {
        pipe_http::measure(&cluster, &mut table)?;
    }
    if is_wanted("starved") {
        starved::measure(&cluster, &mut table)?;
    }
    let missed = table.missed();
    println!(
        "{} aims missed{}",
        missed.len(),
        if missed.is_empty() {
            String::new()
        } else {
            format!(": {missed:?}")
        }
    );
    cluster.finish()
}
