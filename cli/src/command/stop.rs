//! `pipes stop RUN`

use std::time::Duration;

use crate::client::{self, Client};
use crate::context::Contexts;
use crate::duration;
use crate::error::Error;
use crate::output;

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

pub fn run(arguments: Arguments) -> Result<(), Error> {
    client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        for run in &arguments.runs {
            let id = run.strip_prefix("run/").unwrap_or(run);
            let kwargs = vec![("id", id.into()), ("grace", arguments.grace.as_secs_f64().into())];
            let stopped = client.call("pipes.run.stop", kwargs).await?;
            output::print(&format!("{}\n", stopped.as_str().unwrap_or(id)))?;
        }
        Ok(())
    })
}
