//! `pipes stop RUN`

use pipes_protocol::uris;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{self, Client};
use crate::command::each;
use crate::context::Contexts;
use crate::error::Error;
use crate::object::{self, Run};
use crate::output;
use pipes_protocol::duration;

/// Ends runs: SIGTERM to their stages, SIGKILL after the grace
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Runs, by their ids or unique beginnings of them
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// What the stages have to end by themselves
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
    let Arguments { runs, grace } = arguments;
    client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        // All are told before any is waited for.
        let mut stopping = Vec::new();
        let told = each(&runs, async |run| {
            let id = run.strip_prefix("run/").unwrap_or(run);
            let kwargs = vec![("id", id.into()), ("grace", grace.as_secs_f64().into())];
            let stopped = client.call(uris::RUN_STOP, kwargs).await?;
            stopping.push(stopped.as_str().unwrap_or(id).to_owned());
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
