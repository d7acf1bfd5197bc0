//! `pipes ps`

use crate::client::{self, Client};
use crate::command::objects;
use crate::context::Contexts;
use crate::error::Error;
use crate::object::{Run, Workflow};
use crate::output::Listing;
use pipes_protocol::uris;

/// Workflows that stay up, and runs under way
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The stopped and finished ones too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    listing: Listing,
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    let (workflows, runs) = client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        let asked = || vec![("all", arguments.all.into())];
        let workflows = client.list(uris::WORKFLOW_LIST, asked()).await?;
        let runs = client.list(uris::RUN_LIST, asked()).await?;
        Ok((workflows, runs))
    })?;
    let (workflows, runs) = (objects::<Workflow>(workflows)?, objects::<Run>(runs)?);
    arguments.listing.show_both(&workflows, &runs)
}
