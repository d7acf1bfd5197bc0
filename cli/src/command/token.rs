//! `pipes token create|ls|rm`

use clap::Subcommand;
use pipes_protocol::uris;
use rmpv::Value;

use crate::client;
use crate::command::objects;
use crate::error::Error;
use crate::object::Token;
use crate::output::{self, Listing};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a token and prints it, this once
    Create {
        /// What to call it
        name: String,
        /// operator: all that you may; runner: starts runs and jobs, and sees its own; reader: looks
        #[arg(long, value_name = "ROLE", default_value = "operator")]
        role: Role,
        /// Reaches this workflow alone
        #[arg(long, value_name = "W")]
        workflow: Option<String>,
    },
    /// All tokens, by name
    Ls(Listing),
    /// Takes a token back
    Rm {
        /// Its name
        name: String,
    },
}

/// What a token may do.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Role {
    Operator,
    Runner,
    Reader,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Operator => "operator",
            Role::Runner => "runner",
            Role::Reader => "reader",
        }
    }
}

pub fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Create { name, role, workflow } => {
            let mut kwargs = vec![("name", name.into()), ("role", role.name().into())];
            kwargs.extend(workflow.map(|workflow| ("workflow", super::workflow_name(&workflow).into())));
            let made = client::call_once(uris::TOKEN_CREATE, kwargs)?;
            let token = made
                .as_map()
                .and_then(|map| map.iter().find(|(key, _)| key.as_str() == Some("token")));
            let token = token.and_then(|(_, value)| value.as_str());
            let token = token.ok_or_else(|| Error::Local("the agent's answer holds no token".into()))?;
            output::print(&format!("{token}\n"))
        }
        Command::Ls(listing) => {
            let answer = client::list_once(uris::TOKEN_LIST)?;
            listing.show(&objects::<Token>(answer)?)
        }
        Command::Rm { name } => {
            let kwargs = vec![("name", Value::from(name.as_str()))];
            client::call_once(uris::TOKEN_REMOVE, kwargs)?;
            output::print(&format!("{name}\n"))
        }
    }
}
