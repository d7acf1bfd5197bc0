//! `pipes cancel JOB`

use pipes_protocol::uris;

use crate::client::{self, Client};
use crate::command::each;
use crate::context::Contexts;
use crate::error::Error;
use crate::object::{self, Job};
use crate::output;

/// Ends jobs: SIGTERM to their stages, 5 s later SIGKILL
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Jobs, by unique beginnings or endings of their IDs
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

/// What a job that runs is waited for: SIGTERM, 5 s, SIGKILL, its record.
const WAIT: f64 = 30.0;

pub fn run(arguments: Arguments) -> Result<(), Error> {
    client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        let mut told = Vec::new();
        let refused = each(&arguments.jobs, async |job| {
            let id = job.strip_prefix("job/").unwrap_or(job);
            let kwargs = vec![("id", id.into()), ("short", true.into())];
            let job: Job = object::parse(client.call(uris::JOB_CANCEL, kwargs).await?)?;
            told.push(job.id.unwrap_or_default());
            Ok(())
        })
        .await;
        let ended = each(&told, async |id| {
            let kwargs = vec![("id", id.into()), ("wait", WAIT.into())];
            let job: Job = object::parse(client.call(uris::JOB_GET, kwargs).await?)?;
            match job.state.as_deref() {
                Some("cancelled") => output::print(&format!("{id}\n")),
                Some("queued" | "running") => Err(Error::Local(format!(
                    "job {id} goes on {WAIT} s after it was cancelled; see: pipes inspect {id}"
                ))),
                state => Err(Error::Local(format!(
                    "job {id} had ended already: it {}",
                    state.unwrap_or("is over")
                ))),
            }
        })
        .await;
        if let (Err(refused), Err(_)) = (&refused, &ended) {
            output::error::show(refused);
        }
        ended.and(refused)
    })
}
