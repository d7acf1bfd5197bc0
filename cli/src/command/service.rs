//! `pipes service ls|rm`

use clap::Subcommand;
use pipes_protocol::uris;

use crate::client::{self, Client};
use crate::command::{each, objects};
use crate::context::Contexts;
use crate::error::Error;
use crate::object::Service;
use crate::output::{self, Listing};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All services
    Ls(Listing),
    /// Forgets services
    Rm {
        /// Services, as lines name them
        #[arg(required = true, value_name = "SERVICE")]
        names: Vec<String>,
    },
}

pub fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Ls(listing) => {
            let answer = client::list_once(uris::SERVICE_LIST)?;
            listing.show(&objects::<Service>(answer)?)
        }
        Command::Rm { names } => client::block_on(async {
            let mut client = Client::connect(&Contexts::open()?.target()?).await?;
            each(&names, async |name| {
                let name = name.strip_prefix("service/").unwrap_or(name);
                client
                    .call(uris::SERVICE_REMOVE, vec![("name", name.into())])
                    .await?;
                output::print(&format!("{name}\n"))
            })
            .await
        }),
    }
}
