//! `pipes node ls`

use clap::Subcommand;
use pipes_protocol::uris;

use crate::client;
use crate::command::objects;
use crate::error::Error;
use crate::object::Node;
use crate::output::Listing;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All nodes
    Ls(Listing),
}

pub fn run(command: Command) -> Result<(), Error> {
    let Command::Ls(listing) = command;
    let answer = client::call_once(uris::NODE_LIST, Vec::new())?;
    listing.show(&objects::<Node>(answer)?)
}
