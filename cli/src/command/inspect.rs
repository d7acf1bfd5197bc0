//! `pipes inspect X`

use pipes_protocol::uris;
use rmpv::Value;
use serde::Serialize;

use crate::client::{self, Client};
use crate::context::Contexts;
use crate::error::Error;
use crate::object::{self, Object, Run, Service, Stage};
use crate::output::{self, Format, json, table};

/// All there is to know of a run or a service
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A run, by its id or a unique beginning of it, or a service; run/X or service/X where a name is both
    #[arg(value_name = "X")]
    name: String,
    /// table or json
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "json",
        hide_possible_values = true
    )]
    format: Format,
    /// Only its id
    #[arg(short, long)]
    quiet: bool,
}

/// What X is.
enum Found {
    Run(Run),
    Service(Service),
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    let found = client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        find(&mut client, &arguments.name).await
    })?;
    let text = match &found {
        Found::Run(run) => render(run, &arguments),
        Found::Service(service) => render(service, &arguments),
    };
    output::print(&text)?;
    match found {
        Found::Run(run) if arguments.format == Format::Table && !arguments.quiet => {
            output::print(&format!("\n{}", stages(&run.stages)))
        }
        _ => Ok(()),
    }
}

async fn find(client: &mut Client, name: &str) -> Result<Found, Error> {
    if let Some(id) = name.strip_prefix("run/") {
        return run_of(client, id).await.map(Found::Run);
    }
    if let Some(name) = name.strip_prefix("service/") {
        return service_of(client, name).await.map(Found::Service);
    }
    // Whose name looks like a run's is one, and no service has to be asked for.
    if looks_like_a_run(name) {
        match run_of(client, name).await {
            Err(error) if error.uri() == Some(uris::error::NOT_FOUND) => {}
            found => return found.map(Found::Run),
        }
    }
    match service_of(client, name).await {
        Ok(service) => Ok(Found::Service(service)),
        Err(error) if error.uri() == Some(uris::error::NOT_FOUND) => match run_of(client, name).await {
            Err(error) if error.uri() == Some(uris::error::NOT_FOUND) => Err(Error::Local(format!(
                "there is no run or service '{name}'; pipes ps -a and pipes service ls list them"
            ))),
            found => found.map(Found::Run),
        },
        Err(error) => Err(error),
    }
}

/// `r` and at least the time of a ULID of this century.
fn looks_like_a_run(name: &str) -> bool {
    const LENGTH_MIN: usize = 11;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() >= LENGTH_MIN && name.starts_with("r0") && name.chars().all(is_plain)
}

async fn run_of(client: &mut Client, id: &str) -> Result<Run, Error> {
    object::parse(client.call(uris::RUN_GET, vec![("id", Value::from(id))]).await?)
}

async fn service_of(client: &mut Client, name: &str) -> Result<Service, Error> {
    object::parse(
        client
            .call(uris::SERVICE_GET, vec![("name", Value::from(name))])
            .await?,
    )
}

fn render<T: Object + Serialize>(object: &T, arguments: &Arguments) -> String {
    match arguments.format {
        _ if arguments.quiet => format!("{}\n", object.id()),
        Format::Json => json::render(object),
        Format::Table => table::render(T::TITLES, std::iter::once(object.row())),
    }
}

fn stages(stages: &[Stage]) -> String {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let rows = stages.iter().map(|stage| {
        vec![
            text(stage.stage.map(|stage| stage.to_string())),
            text(stage.service.clone()),
            text(stage.node.clone()),
            text(stage.status.map(|status| status.to_string())),
            text(stage.bytes_in.map(|bytes| bytes.to_string())),
            text(stage.bytes_out.map(|bytes| bytes.to_string())),
        ]
    });
    table::render(
        &["STAGE", "SERVICE", "NODE", "STATUS", "BYTES IN", "BYTES OUT"],
        rows,
    )
}
