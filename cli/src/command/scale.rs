//! `pipes scale W STAGE=N`

use pipes_protocol::uris;
use rmpv::Value;

use crate::client;
use crate::command::run::served::count;
use crate::error::Error;
use crate::output;

/// Has stages of a workflow keep so many replicas
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The workflow
    #[arg(value_name = "W")]
    workflow: String,
    /// A stage, by its number or its service's name, and how many replicas it keeps
    #[arg(required = true, value_name = "STAGE=N", value_parser = count)]
    replicas: Vec<(String, u32)>,
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    let name = super::workflow_name(&arguments.workflow);
    let replicas = arguments.replicas.iter();
    let replicas = replicas.map(|(stage, count)| (stage.as_str().into(), (*count).into()));
    let kwargs = vec![
        ("name", name.into()),
        ("replicas", Value::Map(replicas.collect())),
    ];
    client::call_once(uris::WORKFLOW_SCALE, kwargs)?;
    output::print(&format!("{name}\n"))
}
