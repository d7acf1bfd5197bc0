//! `pipes ps`

use crate::client;
use crate::command::objects;
use crate::error::Error;
use crate::object::Run;
use crate::output::Listing;
use pipes_protocol::uris;

/// Runs under way
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The finished ones too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    listing: Listing,
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    let answer = client::call_once(uris::RUN_LIST, vec![("all", arguments.all.into())])?;
    arguments.listing.show(&objects::<Run>(answer)?)
}
