//! `pipes retry JOB`

use pipes_protocol::uris;
use rmpv::Value;

use crate::client::{self, Client};
use crate::context::Contexts;
use crate::error::Error;
use crate::{last, output};

/// Another job with the same input; its ID is printed
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A job that has ended, by a unique beginning or ending of its ID; else the last one
    #[arg(value_name = "JOB")]
    job: Option<String>,
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    client::block_on(async {
        let target = Contexts::open()?.target()?;
        let id = last::or_last(arguments.job.as_deref(), &target.name)?;
        let mut client = Client::connect(&target).await?;
        let kwargs = vec![("id", Value::from(id)), ("short", true.into())];
        let job = client.call(uris::JOB_RETRY, kwargs).await?;
        let id = job["id"].as_str().unwrap_or_default();
        last::note(&target.name, id);
        output::print(&format!("{id}\n"))
    })
}
