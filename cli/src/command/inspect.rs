//! `pipes inspect X`

use pipes_protocol::uris;
use rmpv::Value;
use serde::Serialize;

use crate::client::{self, Client};
use crate::command::{looks_like_a_job, looks_like_a_run, nearest};
use crate::context::Contexts;
use crate::error::Error;
use crate::last;
use crate::object::{self, Job, Object, Run, Service, Stage, Workflow, WorkflowStage, short_digest};
use crate::output::{self, Format, json, table};

/// All there is to know of a workflow, a run, a job or a service
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A workflow, a run or job by its id or a unique part of it, or a service; workflow/X, run/X, job/X or service/X where a
    /// name is several; else the last job
    #[arg(value_name = "X")]
    name: Option<String>,
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
    Workflow(Workflow),
    Run(Run),
    Job(Box<Job>),
    Service(Service),
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    let found = client::block_on(async {
        let target = Contexts::open()?.target()?;
        let name = match &arguments.name {
            Some(name) => name.clone(),
            None => format!("job/{}", last::or_last(None, &target.name)?),
        };
        find(&mut Client::connect(&target).await?, &name).await
    })?;
    let text = match &found {
        Found::Workflow(workflow) => render(workflow, &arguments),
        Found::Run(run) => render(run, &arguments),
        Found::Job(job) => render(&**job, &arguments),
        Found::Service(service) => render(service, &arguments),
    };
    output::print(&text)?;
    let stages = match &found {
        Found::Workflow(workflow) => replicas(&workflow.stages),
        Found::Run(run) => stages(&run.stages),
        Found::Job(job) => stages(&job.stages),
        Found::Service(_) => return Ok(()),
    };
    match arguments.format {
        Format::Table if !arguments.quiet => output::print(&format!("\n{stages}")),
        _ => Ok(()),
    }
}

async fn find(client: &mut Client, name: &str) -> Result<Found, Error> {
    if let Some(id) = name.strip_prefix("run/") {
        return run_of(client, id).await.map(Found::Run);
    }
    if let Some(id) = name.strip_prefix("job/") {
        return job_of(client, id).await.map(Found::Job);
    }
    if looks_like_a_job(name)
        && let Some(job) = if_there(job_of(client, name).await)?
    {
        return Ok(Found::Job(job));
    }
    if let Some(name) = name.strip_prefix("service/") {
        return service_of(client, name).await.map(Found::Service);
    }
    if let Some(name) = name.strip_prefix("workflow/") {
        return workflow_of(client, name).await.map(Found::Workflow);
    }
    // Whose name looks like a run's is one, and nothing else has to be asked for.
    if looks_like_a_run(name)
        && let Some(run) = if_there(run_of(client, name).await)?
    {
        return Ok(Found::Run(run));
    }
    let workflow = workflow_of(client, name).await;
    // What the agent took to be meant.
    let nearest = workflow.as_ref().err().and_then(nearest);
    let workflow = if_there(workflow)?;
    let service = if_there(service_of(client, name).await)?;
    match (workflow, service) {
        (Some(_), Some(_)) => Err(Error::Usage(format!(
            "'{name}' is a workflow and a service; say workflow/{name} or service/{name}"
        ))),
        (Some(workflow), None) => Ok(Found::Workflow(workflow)),
        (None, Some(service)) => Ok(Found::Service(service)),
        (None, None) => match if_there(run_of(client, name).await)? {
            Some(run) => Ok(Found::Run(run)),
            None => match if_there(job_of(client, name).await)? {
                Some(job) => Ok(Found::Job(job)),
                None => Err(Error::Local(format!(
                    "there is no workflow, run or service '{name}'{}; pipes ps -a and pipes service ls list them",
                    nearest
                        .map(|near| format!(" (did you mean {near}?)"))
                        .unwrap_or_default()
                ))),
            },
        },
    }
}

/// Nothing where there is none of that name.
fn if_there<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Err(error) if error.uri() == Some(uris::error::NOT_FOUND) => Ok(None),
        found => found.map(Some),
    }
}

async fn run_of(client: &mut Client, id: &str) -> Result<Run, Error> {
    object::parse(client.call(uris::RUN_GET, vec![("id", Value::from(id))]).await?)
}

async fn workflow_of(client: &mut Client, name: &str) -> Result<Workflow, Error> {
    let kwargs = vec![("name", Value::from(name))];
    object::parse(client.call(uris::WORKFLOW_GET, kwargs).await?)
}

async fn job_of(client: &mut Client, id: &str) -> Result<Box<Job>, Error> {
    let kwargs = vec![("id", Value::from(id)), ("short", true.into())];
    object::parse(client.call(uris::JOB_GET, kwargs).await?).map(Box::new)
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

fn replicas(stages: &[WorkflowStage]) -> String {
    let number = |value: Option<u32>| value.map_or_else(|| "-".into(), |number| number.to_string());
    let rows = stages.iter().map(|stage| {
        vec![
            number(stage.stage),
            stage.service.clone().unwrap_or_else(|| "-".into()),
            short_digest(&stage.digest).unwrap_or_else(|| "-".into()),
            number(stage.replicas),
            number(stage.ready),
        ]
    });
    table::render(&["STAGE", "SERVICE", "DIGEST", "REPLICAS", "READY"], rows)
}
