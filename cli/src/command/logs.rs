//! `pipes logs X`

use pipes_protocol::uris;
use std::time::Duration;

use pipes_wamp::message::CallOptions;
use pipes_wamp::payload::{self, PayloadBuf};
use rmpv::Value;

use crate::client::{self, Answer, Client};
use crate::context::Contexts;
use crate::error::Error;
use crate::output;
use pipes_protocol::duration;

/// What a run's stages said on standard error
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A run, by its id or a unique beginning of it
    #[arg(value_name = "RUN")]
    run: String,
    /// Goes on as long as the run does
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// Only what is not older
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    since: Option<Duration>,
    /// Only of this stage: its number, or its service's name
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        let id = arguments.run.strip_prefix("run/").unwrap_or(&arguments.run);
        let mut kwargs = vec![("id", Value::from(id)), ("follow", arguments.follow.into())];
        kwargs.extend(arguments.tail.map(|lines| ("tail", lines.into())));
        kwargs.extend(arguments.since.map(|since| ("since", since.as_secs_f64().into())));
        kwargs.extend(arguments.stage.map(|stage| ("stage", stage.into())));
        let options = CallOptions {
            receive_progress: true,
            ..CallOptions::default()
        };
        let asked = PayloadBuf::of_kwargs(kwargs);
        let mut request = client.send(uris::RUN_LOGS, options, asked.as_payload()).await?;
        loop {
            let part = match client.answer(request).await {
                Ok(Answer::Progress(part)) => part,
                Ok(Answer::Done(_)) => break,
                Err(error) if client::was_not_taken_up(&error) => {
                    client = client.elsewhere().join(error).await?;
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
                // Whoever read it has read enough.
                break;
            }
        }
        Ok(())
    })
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
