//! One file a command: its help, its arguments and what it does.

mod build;
mod cancel;
mod cluster;
mod completions;
mod context;
mod init;
mod inspect;
mod jobs;
mod logs;
mod node;
mod ps;
mod query;
mod result;
mod retry;
mod rm;
mod run;
mod scale;
mod service;
mod start;
mod stop;
mod token;
mod update;
mod version;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::Error;
use crate::exit::{self, Outcome};
use crate::output;
use pipes_protocol::uris;
pub use run::line::one_argument;

/// Unix pipes over a cluster of servers.
#[derive(Debug, Parser)]
#[command(
    name = "pipes",
    version,
    about,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// The whole command line, for completions.
pub fn definition() -> clap::Command {
    Arguments::command()
}

/// The commands. What is not built yet is not here.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(init::Arguments),
    Build(build::Arguments),
    // Its options are many.
    Run(Box<run::Arguments>),
    Query(query::Arguments),
    Result(result::Arguments),
    Cancel(cancel::Arguments),
    Retry(retry::Arguments),
    Jobs(jobs::Arguments),
    Ps(ps::Arguments),
    Inspect(inspect::Arguments),
    Logs(logs::Arguments),
    Stop(stop::Arguments),
    Start(start::Arguments),
    Rm(rm::Arguments),
    Scale(scale::Arguments),
    // Its options are many.
    Update(Box<update::Arguments>),
    /// Executables that were built
    #[command(subcommand)]
    Service(service::Command),
    /// Servers of the cluster
    #[command(subcommand)]
    Node(node::Command),
    /// Clusters, and the one in use
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Which cluster commands go to
    #[command(subcommand)]
    Context(context::Command),
    /// Tokens by which other programs may do what this user may
    #[command(subcommand)]
    Token(token::Command),
    Version(version::Arguments),
    Completions(completions::Arguments),
}

impl Command {
    /// Does it; what went wrong is said on stderr.
    pub fn run(self) -> Outcome {
        let done = match self {
            Command::Run(arguments) => return run::run(*arguments),
            Command::Query(arguments) => return query::run(arguments),
            Command::Result(arguments) => return result::run(arguments),
            Command::Cancel(arguments) => cancel::run(arguments),
            Command::Retry(arguments) => retry::run(arguments),
            Command::Jobs(arguments) => jobs::run(arguments),
            Command::Init(arguments) => init::run(arguments),
            Command::Build(arguments) => build::run(arguments),
            Command::Ps(arguments) => ps::run(arguments),
            Command::Inspect(arguments) => inspect::run(arguments),
            Command::Logs(arguments) => logs::run(arguments),
            Command::Stop(arguments) => stop::run(arguments),
            Command::Start(arguments) => start::run(arguments),
            Command::Rm(arguments) => rm::run(arguments),
            Command::Scale(arguments) => scale::run(arguments),
            Command::Update(arguments) => update::run(*arguments),
            Command::Service(command) => service::run(command),
            Command::Node(command) => node::run(command),
            Command::Cluster(command) => cluster::run(command),
            Command::Context(command) => context::run(command),
            Command::Token(command) => token::run(command),
            Command::Version(arguments) => version::run(arguments),
            Command::Completions(arguments) => completions::run(arguments),
        };
        match done {
            Ok(()) => exit::SUCCESS,
            Err(error) => {
                output::error::show(&error);
                exit::of_error(&error)
            }
        }
    }
}

/// A workflow's name, as it may be given: `words` or `workflow/words`.
fn workflow_name(given: &str) -> &str {
    given.strip_prefix("workflow/").unwrap_or(given)
}

/// Whether a name is like a run's id.
fn looks_like_a_run(name: &str) -> bool {
    looks_like_an_id(name, "r0")
}

/// Whether a name is like a job's id.
fn looks_like_a_job(name: &str) -> bool {
    looks_like_an_id(name, "j0")
}

/// A letter and at least the time of a ULID of this century, which begins with 0.
fn looks_like_an_id(name: &str, beginning: &str) -> bool {
    const LENGTH_MIN: usize = 11;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() >= LENGTH_MIN && name.starts_with(beginning) && name.chars().all(is_plain)
}

/// The name that was probably meant, where the agent says one.
fn nearest(error: &Error) -> Option<String> {
    match error {
        Error::Refused { arguments, .. } => arguments.get(1)?.as_str().map(str::to_owned),
        _ => None,
    }
}

/// That a name is neither a workflow's nor a run's: refused as the agent refuses it. `error` is what it said of workflows.
fn neither(name: &str, error: &Error) -> Error {
    let nearest = nearest(error).map(|near| format!(" (did you mean {near}?)"));
    Error::Refused {
        uri: uris::error::NOT_FOUND.to_owned(),
        message: format!(
            "there is no workflow or run {name}{}; pipes ps -a lists them",
            nearest.unwrap_or_default()
        ),
        arguments: Vec::new(),
    }
}

/// The objects of an agent's answer that is a list.
fn objects<T: crate::object::Object>(answer: rmpv::Value) -> Result<Vec<T>, Error> {
    crate::answer::list(answer)
        .into_iter()
        .map(crate::object::parse)
        .collect()
}

/// Does it to each of `names`. One that the agent refuses keeps nobody from the others; what was refused is said, all but
/// the last, which is the result.
async fn each(names: &[String], mut act: impl AsyncFnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
    let mut refused: Option<Error> = None;
    for name in names {
        match act(name).await {
            Ok(()) => {}
            Err(error @ Error::Refused { .. }) => {
                if let Some(earlier) = refused.replace(error) {
                    output::error::show(&earlier);
                }
            }
            // Without an agent the others would fail alike.
            Err(error) => return Err(error),
        }
    }
    refused.map_or(Ok(()), Err)
}
