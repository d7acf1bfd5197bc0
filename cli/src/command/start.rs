//! `pipes start W`

use pipes_protocol::uris;

use crate::client::{self, Client};
use crate::command::each;
use crate::context::Contexts;
use crate::error::Error;
use crate::output;

/// Has stopped workflows serve again
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Workflows
    #[arg(required = true, value_name = "W")]
    workflows: Vec<String>,
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        each(&arguments.workflows, async |name| {
            let name = super::workflow_name(name);
            client
                .call(uris::WORKFLOW_START, vec![("name", name.into())])
                .await?;
            output::print(&format!("{name}\n"))
        })
        .await
    })
}
