//! `pipes rm W`

use pipes_protocol::uris;

use crate::client::{self, Client};
use crate::command::each;
use crate::context::Contexts;
use crate::error::Error;
use crate::output;

/// Forgets workflows that are stopped
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Workflows
    #[arg(required = true, value_name = "W")]
    workflows: Vec<String>,
    /// Also those that run or have unfinished jobs, which are cancelled
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        each(&arguments.workflows, async |name| {
            let name = super::workflow_name(name);
            let kwargs = vec![("name", name.into()), ("force", arguments.force.into())];
            client.call(uris::WORKFLOW_REMOVE, kwargs).await?;
            output::print(&format!("{name}\n"))
        })
        .await
    })
}
