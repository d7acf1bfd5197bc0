//! Queries under load and faults at once: a fixed round of the harness that `scripts/chaos --minutes N` goes through at
//! random.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use pipes_chaos::random;
use pipes_chaos::scenario::plan::{Fault, Step};
use pipes_chaos::scenario::{self, Round};

/// Clients over HTTP.
const CLIENTS: usize = 32;
/// Queries, unless `PIPES_JOBS` says otherwise.
const QUERIES: usize = 1_000;
/// How long the faults take; the queries are spread over it, so that some are under way at each.
const FAULTS_TIME: Duration = Duration::from_secs(65);
/// How long a query may wait for its ID while a majority is up: an election, and an agent that does not answer.
const ACCEPTED_LIMIT: Duration = Duration::from_secs(3);

/// Each agent in turn, the leader, in a snapshot, stopped, and all at once.
fn plan() -> Vec<Step> {
    let (down, stopped) = (Duration::from_millis(500), Duration::from_secs(15));
    let faults = [
        Fault::Kill(0, down),
        Fault::Kill(1, down),
        Fault::Kill(2, down),
        Fault::KillLeader(down),
        Fault::LateEnd(1),
        Fault::KillInSnapshot(0),
        Fault::KillInSnapshot(1),
        Fault::Pause(2, stopped),
        Fault::KillInSnapshot(2),
        Fault::KillAll,
        Fault::LateEnd(0),
        // What an agent had read of the others when it was stopped may say all the same that the job is another's: of three
        // late ends hardly all.
        Fault::LateEnd(2),
    ];
    let calm = Duration::from_millis(500);
    faults.map(|fault| Step { calm, fault }).into()
}

#[test]
fn every_answered_query_has_one_right_result_while_agents_are_killed_stopped_and_all_killed_at_once()
-> Result<()> {
    let queries = std::env::var("PIPES_JOBS")
        .ok()
        .and_then(|text| text.parse().ok());
    let queries = queries.unwrap_or(QUERIES);
    let pace = FAULTS_TIME * u32::try_from(CLIENTS)? / u32::try_from(queries)?;
    let summary = scenario::go(&Round {
        seed: random::seed("chaos"),
        plan: plan(),
        clients: CLIENTS,
        pace,
        queries,
        is_mixed: false,
        has_clocks: false,
        keep: PathBuf::from(std::env::var("PIPES_KEEP").unwrap_or_else(|_| "/tmp/pipes-chaos-kept".into())),
    })?;
    println!("{summary}");
    ensure!(summary.violations.is_empty(), "{:#?}", summary.violations);
    // And those which waited for their file.
    ensure!(summary.jobs >= queries, "{summary}");
    ensure!(summary.faults.get("kills in a snapshot") >= Some(&3), "{summary}");
    ensure!(summary.late_refused >= 1, "no late end was refused: {summary}");
    ensure!(summary.slowest <= ACCEPTED_LIMIT, "{summary}");
    Ok(())
}
