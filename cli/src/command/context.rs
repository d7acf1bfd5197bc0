//! `pipes context ls|use|rm`

use clap::Subcommand;

use crate::context::{Context, Contexts};
use crate::error::Error;
use crate::local::Cluster;
use crate::object;
use crate::output::{self, Listing};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All contexts
    Ls(Listing),
    /// Commands go to this one from now on
    Use {
        /// Its name
        name: String,
    },
    /// Forgets a context; its cluster stays as it is
    Rm {
        /// Its name
        name: String,
    },
}

pub fn run(command: Command) -> Result<(), Error> {
    let contexts = Contexts::open()?;
    match command {
        Command::Ls(listing) => {
            let current = contexts.in_use().ok().map(|context| context.name);
            let all: Vec<_> = contexts
                .all()?
                .into_iter()
                .map(|context| shown(context, &current))
                .collect();
            listing.show(&all)
        }
        Command::Use { name } => {
            contexts.choose(&name)?;
            output::print(&format!("{name}\n"))
        }
        Command::Rm { name } => {
            let context = contexts.named(&name)?;
            if context.local.is_some() && Cluster::find(&name)?.is_some() {
                return Err(Error::Local(format!(
                    "context {name} is the only way to the local cluster {name}; remove both with: pipes cluster rm {name}"
                )));
            }
            contexts.remove(&name)?;
            output::print(&format!("{name}\n"))
        }
    }
}

fn shown(context: Context, current: &Option<String>) -> object::Context {
    object::Context {
        current: current.as_ref() == Some(&context.name),
        name: Some(context.name),
        cluster: Some(context.cluster),
        servers: context.servers,
    }
}
