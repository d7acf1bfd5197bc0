//! `pipes logs X`

use std::io::Write;
use std::time::Duration;

use pipes_wamp::message::CallOptions;
use pipes_wamp::payload::{self, PayloadBuf};
use rmpv::Value;

use crate::client::{self, Answer, Client};
use crate::context::Contexts;
use crate::duration;
use crate::error::{self, Error};

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
                "pipes.run.logs",
                options,
                PayloadBuf::of_kwargs(kwargs).as_payload(),
            )
            .await?;
        let mut out = std::io::stdout();
        while let Answer::Progress(part) = client.answer(request).await? {
            let bytes = payload::bytes_arg(part.as_payload()).unwrap_or_default();
            match out.write_all(bytes).and_then(|()| out.flush()) {
                Ok(()) => {}
                // Whoever read it has read enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                Err(error) => {
                    return Err(Error::Local(format!(
                        "cannot write to standard output: {}",
                        error::plain(&error)
                    )));
                }
            }
        }
        Ok(())
    })
}
