//! `pipes logs X`

use pipes_protocol::uris;
use std::collections::BTreeSet;
use std::time::Duration;

use pipes_wamp::message::CallOptions;
use pipes_wamp::payload::{self, PayloadBuf};
use rmpv::Value;
use tokio::time::sleep;

use crate::client::{self, Answer, Client};
use crate::command::{looks_like_a_job, looks_like_a_run, neither, objects};
use crate::context::Contexts;
use crate::error::Error;
use crate::object::Run;
use crate::{last, output};
use pipes_protocol::duration;

/// What the stages of a workflow, a run or a job said on standard error
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A workflow, or a run or job by its id or a unique part of it; workflow/X, run/X or job/X where a name is several; else
    /// the last job
    #[arg(value_name = "X")]
    name: Option<String>,
    /// Goes on as long as the run or the workflow does
    #[arg(short, long)]
    follow: bool,
    /// With when each line came
    #[arg(short, long)]
    timestamps: bool,
    /// Only the last N lines of each run
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// Only what is not older
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    since: Option<Duration>,
    /// Only of this stage: its number, or its service's name
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
}

/// Between two looks at which requests a workflow has: a listing reads the records of all runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub fn run(arguments: Arguments) -> Result<(), Error> {
    client::block_on(async {
        let target = Contexts::open()?.target()?;
        let mut client = Client::connect(&target).await?;
        let name = match &arguments.name {
            Some(name) => name.clone(),
            None => format!("job/{}", last::or_last(None, &target.name)?),
        };
        let name = name.as_str();
        if let Some(id) = name.strip_prefix("run/") {
            return of(&mut client, ("id", id), &arguments).await.map(drop);
        }
        if let Some(id) = name.strip_prefix("job/") {
            return of(&mut client, ("job", id), &arguments).await.map(drop);
        }
        if let Some(name) = name.strip_prefix("workflow/") {
            return of_workflow(&mut client, name, &arguments).await;
        }
        if looks_like_a_run(name) {
            return of(&mut client, ("id", name), &arguments).await.map(drop);
        }
        if looks_like_a_job(name) {
            return of(&mut client, ("job", name), &arguments).await.map(drop);
        }
        match client.call(uris::WORKFLOW_GET, vec![("name", name.into())]).await {
            Ok(_) => of_workflow(&mut client, name, &arguments).await,
            Err(error) if error.uri() == Some(uris::error::NOT_FOUND) => {
                let is_none = |error: &Error| error.uri() == Some(uris::error::NOT_FOUND);
                let mut told = of(&mut client, ("id", name), &arguments).await;
                if told.as_ref().is_err_and(is_none) {
                    told = of(&mut client, ("job", name), &arguments).await;
                }
                told.map(drop).map_err(|other| match is_none(&other) {
                    true => neither(name, &error),
                    false => other,
                })
            }
            Err(error) => Err(error),
        }
    })
}

/// What the requests of a workflow said, one after another, the oldest that is kept first.
async fn of_workflow(client: &mut Client, name: &str, arguments: &Arguments) -> Result<(), Error> {
    client
        .call(uris::WORKFLOW_GET, vec![("name", name.into())])
        .await?;
    let mut told = BTreeSet::new();
    loop {
        let runs = client.list(uris::RUN_LIST, vec![("all", true.into())]).await?;
        let runs = objects::<Run>(runs)?;
        let of_it = runs
            .into_iter()
            .filter(|run| run.workflow.as_deref() == Some(name));
        let known: BTreeSet<String> = of_it.filter_map(|run| run.id).collect();
        // What is listed no more is not listed again.
        told.retain(|id| known.contains(id));
        for id in known {
            if !told.insert(id.clone()) {
                continue;
            }
            match of(client, ("id", &id), arguments).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // Of a server that is down, say: the others' are told all the same.
                Err(error @ Error::Refused { .. }) => output::warn(&[error.to_string()]),
                Err(error) => return Err(error),
            }
        }
        if !arguments.follow {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What the stages of a run (`id`) or a job said; false where whoever read it has read enough.
async fn of(client: &mut Client, (what, id): (&str, &str), arguments: &Arguments) -> Result<bool, Error> {
    let mut kwargs = vec![(what, Value::from(id)), ("follow", arguments.follow.into())];
    kwargs.extend(arguments.timestamps.then(|| ("timestamps", true.into())));
    kwargs.extend(arguments.tail.map(|lines| ("tail", lines.into())));
    kwargs.extend(arguments.since.map(|since| ("since", since.as_secs_f64().into())));
    kwargs.extend(arguments.stage.as_deref().map(|stage| ("stage", stage.into())));
    let options = CallOptions {
        receive_progress: true,
        ..CallOptions::default()
    };
    let asked = PayloadBuf::of_kwargs(kwargs);
    let mut request = client.send(uris::RUN_LOGS, options, asked.as_payload()).await?;
    loop {
        let part = match client.answer(request).await {
            Ok(Answer::Progress(part)) => part,
            Ok(Answer::Done(_)) => return Ok(true),
            Err(error) if client::was_not_taken_up(&error) => {
                *client = client.elsewhere().join(error).await?;
                request = client.send(uris::RUN_LOGS, options, asked.as_payload()).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(gap) = gap(&part) {
            output::warn(&[gap]);
        }
        let bytes = payload::bytes_arg(part.as_payload()).unwrap_or_default();
        if !output::write(bytes)? {
            return Ok(false);
        }
    }
}

/// What is missing here of what a stage said, where the agent says that something is.
fn gap(part: &PayloadBuf) -> Option<String> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Gap {
        stage: u32,
        missed_bytes: u64,
        missed_lines: u64,
    }
    let gap: Gap = part.as_payload().kwargs_as().ok()?;
    (gap.missed_bytes > 0).then(|| {
        let Gap {
            stage,
            missed_bytes,
            missed_lines,
        } = gap;
        format!(
            "{missed_lines} lines ({missed_bytes} bytes) of stage {stage} are missing here: they are not kept any more"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_its_stage() {
        let numbers = [("stage", 2), ("missed_bytes", 96), ("missed_lines", 9)];
        let kwargs = |numbers: &[(&'static str, i32)]| {
            let kwargs = numbers.iter().map(|(name, number)| (*name, Value::from(*number)));
            PayloadBuf::of_kwargs(kwargs.collect())
        };
        assert_eq!(
            gap(&kwargs(&numbers)).unwrap(),
            "9 lines (96 bytes) of stage 2 are missing here: they are not kept any more"
        );
        assert_eq!(gap(&kwargs(&numbers[..1])), None);
    }
}
