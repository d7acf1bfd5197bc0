//! `pipes stop X`

use pipes_protocol::uris;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{self, Client};
use crate::command::{each, looks_like_a_run, neither};
use crate::context::Contexts;
use crate::error::Error;
use crate::object::{self, Run};
use crate::output;
use pipes_protocol::duration;

/// Has workflows take nothing new, and ends runs: SIGTERM to their stages, SIGKILL after the grace
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Workflows, and runs by their ids or unique beginnings of them; workflow/X or run/X where a name is both
    #[arg(required = true, value_name = "X")]
    names: Vec<String>,
    /// What a run's stages, or a workflow's jobs, have to end by themselves
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    grace: Duration,
}

/// Between two looks at whether a run has ended: what a stop is seen to take at least, and at most a question.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After the grace and SIGKILL, what processes, records and servers may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// A run that is no longer under way has its record after this, or gets none.
const RECORD_WITHIN: Duration = Duration::from_secs(2);

pub fn run(arguments: Arguments) -> Result<(), Error> {
    let Arguments { names, grace } = arguments;
    client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        // All are told before any is waited for.
        let mut stopping = Vec::new();
        let told = each(&names, async |name| {
            match stop(&mut client, name, grace).await? {
                Stopped::Run(id) => stopping.push(id),
                Stopped::Workflow(name) => output::print(&format!("{name}\n"))?,
            }
            Ok(())
        })
        .await;
        // Beyond what the clock can count, there is no end to it.
        let until = Instant::now().checked_add(grace.saturating_add(GONE_WITHIN));
        let ended = each(&stopping, async |id| {
            if !has_ended(&mut client, id, until).await? {
                return Err(Error::Local(format!(
                    "run {id} goes on {} s after its grace; see: pipes inspect {id}",
                    GONE_WITHIN.as_secs()
                )));
            }
            output::print(&format!("{id}\n"))
        })
        .await;
        if let (Err(refused), Err(_)) = (&told, &ended) {
            output::error::show(refused);
        }
        ended.and(told)
    })
}

/// What was told to stop.
enum Stopped {
    /// By its whole id.
    Run(String),
    Workflow(String),
}

async fn stop(client: &mut Client, name: &str, grace: Duration) -> Result<Stopped, Error> {
    if let Some(id) = name.strip_prefix("run/") {
        return stop_run(client, id, grace).await;
    }
    if let Some(name) = name.strip_prefix("workflow/") {
        return stop_workflow(client, name, grace).await;
    }
    let is_none = |error: &Error| error.uri() == Some(uris::error::NOT_FOUND);
    if looks_like_a_run(name) {
        // A run that has ended is none that can be stopped, and hardly a workflow.
        return match stop_run(client, name, grace).await {
            Err(error) if is_none(&error) => stop_workflow(client, name, grace).await.map_err(|_| error),
            stopped => stopped,
        };
    }
    match stop_workflow(client, name, grace).await {
        Err(error) if is_none(&error) => {
            let stopped = stop_run(client, name, grace).await;
            stopped.map_err(|other| {
                if is_none(&other) {
                    neither(name, &error)
                } else {
                    other
                }
            })
        }
        stopped => stopped,
    }
}

async fn stop_run(client: &mut Client, id: &str, grace: Duration) -> Result<Stopped, Error> {
    let kwargs = vec![("id", id.into()), ("grace", grace.as_secs_f64().into())];
    let stopped = client.call(uris::RUN_STOP, kwargs).await?;
    Ok(Stopped::Run(stopped.as_str().unwrap_or(id).to_owned()))
}

async fn stop_workflow(client: &mut Client, name: &str, grace: Duration) -> Result<Stopped, Error> {
    let kwargs = vec![("name", name.into()), ("grace", grace.as_secs_f64().into())];
    client.call(uris::WORKFLOW_STOP, kwargs).await?;
    Ok(Stopped::Workflow(name.to_owned()))
}

/// Waits until the run is over, and its record can be read.
async fn has_ended(client: &mut Client, id: &str, until: Option<Instant>) -> Result<bool, Error> {
    let mut unknown_since = None;
    while until.is_none_or(|until| Instant::now() < until) {
        match client.call(uris::RUN_GET, vec![("id", id.into())]).await {
            Ok(run) => {
                let run: Run = object::parse(run)?;
                if run.status.is_some() {
                    return Ok(true);
                }
            }
            Err(error) if error.uri() == Some(uris::error::NOT_FOUND) => {
                if unknown_since.get_or_insert_with(Instant::now).elapsed() > RECORD_WITHIN {
                    return Ok(true);
                }
            }
            // A leader may have to be elected.
            Err(error) if error.uri() == Some(uris::error::UNAVAILABLE) => {}
            Err(error) => return Err(error),
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(false)
}
