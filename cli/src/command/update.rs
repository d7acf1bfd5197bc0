//! `pipes update W ["line"]`

use std::path::PathBuf;

use pipes_protocol::uris;
use rmpv::Value;

use crate::client::{self, Client};
use crate::command::build;
use crate::command::run::daemon::Started;
use crate::command::run::{files, line, options, served};
use crate::context::Contexts;
use crate::error::Error;
use crate::object::{self, Workflow};
use crate::output;
use crate::output::spinner::{EVERY, Spinner};

/// Has a workflow run another line, newer versions or with other options
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is not given stays as it is; without a line, the same one with the versions there are now. What ran before serves until each new stage has a replica, and goes on where one has none after a minute."
)]
pub struct Arguments {
    /// The workflow
    #[arg(value_name = "W")]
    workflow: String,
    /// The new line as one argument
    #[arg(value_name = "LINE")]
    line: Vec<String>,
    /// The line from a file: # begins a comment, a newline may follow |
    #[arg(short, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Takes the last update back: line, versions, environment, files and all
    #[arg(long)]
    rollback: bool,
    #[command(flatten)]
    common: options::Common,
    #[command(flatten)]
    served: served::Served,
}

pub fn run(mut arguments: Arguments) -> Result<(), Error> {
    if arguments.from.is_none() {
        arguments.served.give_back_line(&mut arguments.line);
    }
    let shown = match (&arguments.from, arguments.line.as_slice()) {
        (None, []) => None,
        (None, pieces @ [_, _, ..]) => return Err(Error::Usage(in_pieces(&arguments.workflow, pieces))),
        (from, line) => Some(line::given(from.as_deref(), line)?),
    };
    let line = shown
        .as_deref()
        .map(|shown| line::read(arguments.from.as_deref(), shown));
    let updated = line.transpose().and_then(|line| {
        client::block_on(async {
            let waiting = tick(&arguments.workflow);
            tokio::select! {
                updated = update(&arguments, line.as_deref()) => updated,
                never = waiting => never,
            }
        })
    });
    match updated {
        Ok(started) => started.show_change(),
        // With the place shown under the line.
        Err(error) if error.uri() == Some(uris::error::SYNTAX) => {
            let shown = shown.unwrap_or_default();
            Err(Error::Local(output::error::of_line(&error, &shown)))
        }
        Err(error) => Err(error),
    }
}

async fn update(arguments: &Arguments, line: Option<&str>) -> Result<Started, Error> {
    let name = super::workflow_name(&arguments.workflow);
    let mut kwargs: Vec<(&str, Value)> = vec![("name", name.into())];
    kwargs.extend(line.map(|line| ("line", line.into())));
    kwargs.extend(arguments.common.changes()?);
    kwargs.extend(arguments.served.options()?);
    if arguments.rollback {
        kwargs.push(("rollback", true.into()));
    }
    let mut client = Client::connect(&Contexts::open()?.target()?).await?;
    if arguments.common.build {
        let line = match line {
            Some(line) => line.to_owned(),
            None => known_line(&mut client, name).await?,
        };
        build::build_changed(&mut client, &line::services(&line)).await?;
    }
    let files = files::send(&mut client, &arguments.common.file).await?;
    kwargs.extend(files.map(|files| ("file", files)));
    object::parse(client.call(uris::WORKFLOW_UPDATE, kwargs).await?)
}

async fn known_line(client: &mut Client, name: &str) -> Result<String, Error> {
    let known = client
        .call(uris::WORKFLOW_GET, vec![("name", name.into())])
        .await?;
    Ok(object::parse::<Workflow>(known)?.line.unwrap_or_default())
}

/// Shows that it takes its time.
async fn tick(workflow: &str) -> Result<Started, Error> {
    let mut waiting = Spinner::new(&format!("the new stages of {workflow} start"));
    loop {
        tokio::time::sleep(EVERY).await;
        waiting.tick();
    }
}

/// What to say to a line given in several arguments.
fn in_pieces(workflow: &str, pieces: &[String]) -> String {
    line::one_argument(pieces).replace("pipes run", &format!("pipes update {workflow}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_pieces_is_shown_as_it_should_have_been() {
        let pieces = ["sort".to_owned(), "-n".to_owned()];
        assert_eq!(
            in_pieces("w", &pieces),
            "the line must be one argument: pipes update w \"sort -n\""
        );
    }
}
