//! `pipes jobs`

use pipes_protocol::uris;
use rmpv::Value;

use crate::client::{self, Client};
use crate::command::objects;
use crate::context::Contexts;
use crate::error::Error;
use crate::object::Job;
use crate::output::Listing;

/// Queries of daemon workflows, unfinished and finished
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Of this workflow alone
    #[arg(short, long, value_name = "W")]
    workflow: Option<String>,
    /// queued, running, succeeded, failed or cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    #[command(flatten)]
    listing: Listing,
}

/// Jobs that one call gives.
const PAGE: u64 = 500;

pub fn run(arguments: Arguments) -> Result<(), Error> {
    client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        let mut shown = arguments.listing.pages();
        let mut after = Value::Nil;
        loop {
            let given = |value: &Option<String>| value.as_deref().map_or(Value::Nil, Value::from);
            let kwargs = vec![
                ("workflow", given(&arguments.workflow)),
                ("state", given(&arguments.state)),
                ("limit", PAGE.into()),
                ("after", after),
            ];
            let page = client.call(uris::JOB_LIST, kwargs).await?;
            let is_read = shown.show(&objects::<Job>(page["jobs"].clone())?)?;
            after = page["next"].clone();
            if after.is_nil() || !is_read {
                return shown.end::<Job>();
            }
        }
    })
}
