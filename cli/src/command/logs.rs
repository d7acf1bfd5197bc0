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
        let request = client
            .send(
                uris::RUN_LOGS,
                options,
                PayloadBuf::of_kwargs(kwargs).as_payload(),
            )
            .await?;
        while let Answer::Progress(part) = client.answer(request).await? {
            let bytes = payload::bytes_arg(part.as_payload()).unwrap_or_default();
            if !output::write(bytes)? {
                // Whoever read it has read enough.
                break;
            }
        }
        Ok(())
    })
}
