//! `pipes node ls|reset`

use clap::Subcommand;
use pipes_protocol::uris;
use rmpv::Value;

use crate::client;
use crate::command::objects;
use crate::error::Error;
use crate::object::Node;
use crate::output::{self, Listing};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All nodes
    Ls(Listing),
    /// Makes a node whose data is damaged, or differs from the others', a new member under its name
    Reset {
        /// Its name
        name: String,
    },
}

pub fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Ls(listing) => {
            let answer = client::call_once(uris::NODE_LIST, Vec::new())?;
            listing.show(&objects::<Node>(answer)?)
        }
        Command::Reset { name } => {
            client::call_once(uris::NODE_RESET, vec![("name", Value::from(name.as_str()))])?;
            output::print(&format!(
                "{name} joins anew; what it had is set aside in its data folder\n"
            ))
        }
    }
}
