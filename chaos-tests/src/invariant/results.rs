//! Every job whose ID was answered has exactly one recorded result, with the right bytes.
//!
//! The bytes are asked of one agent after another; the records are counted in the listing, where an ID occurs once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::history::{Accepted, History};
use crate::http::{Connection, Request};
use crate::load::jobs::PORT;

/// How long all jobs together may take to end after the last fault: attempts that failed rest up to 30 s, and one that
/// lost two servers waits until it is alone.
const ENDED_LIMIT: Duration = Duration::from_secs(120);
/// Connections that ask at once.
const ASKERS: usize = 3;
/// Jobs of a page: as many as a listing gives at most.
const PAGE: usize = 1_000;

/// What does not hold of the queries that were answered.
pub fn look(cluster: &Cluster, history: &History) -> Result<Vec<String>> {
    let told = history.told();
    let until = Instant::now() + ENDED_LIMIT;
    let mut found = told.keys_broken.clone();
    let share = told.accepted.len().div_ceil(ASKERS).max(1);
    let wrong = std::thread::scope(|scope| -> Result<Vec<String>> {
        let askers: Vec<_> = told
            .accepted
            .chunks(share)
            .enumerate()
            .map(|(asker, jobs)| scope.spawn(move || ask(cluster, asker, jobs, until)))
            .collect();
        let mut wrong = Vec::new();
        for asker in askers {
            wrong.extend(asker.join().map_err(|_| anyhow::anyhow!("an asker panicked"))??);
        }
        Ok(wrong)
    })?;
    found.extend(wrong);
    let listed = listed(cluster)?;
    for job in &told.accepted {
        match listed.get(&job.id).map(Vec::as_slice) {
            Some([state]) if state == "succeeded" => {}
            records => found.push(format!("{} has the records {records:?}", job.id)),
        }
    }
    Ok(found)
}

/// What is wrong with the results of these.
fn ask(cluster: &Cluster, asker: usize, jobs: &[Accepted], until: Instant) -> Result<Vec<String>> {
    let node = &cluster.nodes[asker % cluster.nodes.len()];
    let mut http = Connection::to(&node.address, PORT)?.within(ENDED_LIMIT + Duration::from_secs(10));
    let mut found = Vec::new();
    for job in jobs {
        let wait = until.saturating_duration_since(Instant::now()).as_secs().max(1);
        let target = format!("/{}/jobs/{}/result?wait={wait}", job.workflow, job.id);
        let answer = http.ask(&Request::get(&target))?;
        if answer.status != 200 || answer.header("pipes-status") != Some("0") {
            found.push(format!(
                "{}: {} {:?} {}",
                job.id,
                answer.status,
                answer.header("pipes-status"),
                answer.text().chars().take(200).collect::<String>()
            ));
        } else if answer.body != job.expected {
            found.push(format!(
                "{}: {} other octets than the {} that are right",
                job.id,
                answer.body.len(),
                job.expected.len()
            ));
        }
    }
    Ok(found)
}

/// The states of each job that is listed, one a record.
fn listed(cluster: &Cluster) -> Result<BTreeMap<String, Vec<String>>> {
    let mut session = cluster.nodes[0].operator()?;
    let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let mut keywords = vec![("limit", PAGE.into())];
        keywords.extend(after.as_deref().map(|id| ("after", id.into())));
        let answered = session.call("pipes.job.list", vec![], keywords)?.done()?;
        let page = answered.first().context("a page")?;
        for job in page["jobs"].as_array().context("jobs")? {
            let (id, state) = (job["id"].as_str(), job["state"].as_str());
            let (id, state) = id.zip(state).with_context(|| job.to_string())?;
            listed.entry(id.to_owned()).or_default().push(state.to_owned());
        }
        let next = page["next"].as_str().map(str::to_owned);
        ensure!(
            next.is_none() || next > after,
            "page after {after:?} leads to {next:?}"
        );
        match next {
            Some(id) => after = Some(id),
            None => return Ok(listed),
        }
    }
}
