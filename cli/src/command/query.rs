//! `pipes query DATA|-`

use pipes_protocol::run::Part;
use pipes_protocol::uris;
use pipes_wamp::payload::{self, PayloadBuf};
use pipes_wamp::streaming;
use rmpv::Value;
use tokio::io::AsyncReadExt;

use crate::client::{self, Answer, Client};
use crate::command::result::{self, Patience};
use crate::context::{Contexts, Target};
use crate::error::Error;
use crate::exit::{self, Outcome};
use crate::{last, output};

/// Asks a daemon workflow: a job, which is waited for and whose result is written
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What goes in, with a newline after it as echo gives one; - is stdin, exactly
    #[arg(value_name = "DATA|-")]
    data: String,
    /// Without the newline
    #[arg(short = 'n')]
    exact: bool,
    /// Which workflow; may be left out when one runs
    #[arg(short, long, value_name = "W")]
    workflow: Option<String>,
    /// Prints the job's ID alone, and does not wait
    #[arg(long)]
    detach: bool,
    /// The same key makes a query that is sent again the same job
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// One read of stdin.
const READ_MAX: usize = 64 << 10;

pub fn run(arguments: Arguments) -> Outcome {
    let done = client::block_on(async {
        let target = Contexts::open()?.target()?;
        let id = tokio::select! {
            submitted = submit(&target, &arguments) => submitted?,
            _ = tokio::signal::ctrl_c() => return Ok(Outcome::Signal(libc::SIGINT)),
        };
        last::note(&target.name, &id);
        if arguments.detach {
            output::print(&format!("{id}\n"))?;
            return Ok(exit::SUCCESS);
        }
        tokio::select! {
            ended = result::fetch(&target, &id) => ended,
            _ = tokio::signal::ctrl_c() => {
                output::error::note(&format!("job {id} goes on; see its result with: pipes result {id}"));
                Ok(Outcome::Signal(libc::SIGINT))
            }
        }
    });
    done.unwrap_or_else(|error| {
        output::error::show(&error);
        exit::of_run_error(&error)
    })
}

/// Has it accepted; gives the ID.
async fn submit(target: &Target, arguments: &Arguments) -> Result<String, Error> {
    if arguments.data == "-" {
        return stream(target, arguments).await;
    }
    let mut input = arguments.data.clone().into_bytes();
    if !arguments.exact {
        input.push(b'\n');
    }
    // So that it may be sent again where an agent is lost before it answers.
    let key = arguments.key.clone().unwrap_or_else(random_key);
    let mut kwargs = vec![("input", Value::Binary(input)), ("key", key.into())];
    kwargs.extend(workflow(arguments));
    let asked = PayloadBuf::of_kwargs(kwargs);
    let mut patience = Patience::default();
    loop {
        let accepted = async {
            let mut client = Client::connect(target).await?;
            let request = client
                .send(uris::JOB_SUBMIT, streaming::options(true), asked.as_payload())
                .await?;
            accepted(&mut client, request).await
        };
        match accepted.await {
            Err(error) if patience.has_more(&error) => patience.rest().await,
            submitted => return submitted,
        }
    }
}

fn random_key() -> String {
    // 80 random bits.
    ulid::Ulid::new().to_string()
}

fn workflow(arguments: &Arguments) -> Option<(&'static str, Value)> {
    let name = arguments.workflow.as_deref()?;
    let name = name.strip_prefix("workflow/").unwrap_or(name);
    Some(("workflow", name.into()))
}

/// Sends stdin as there is credit for it.
async fn stream(target: &Target, arguments: &Arguments) -> Result<String, Error> {
    let mut client = Client::connect(target).await?;
    let mut kwargs: Vec<(&str, Value)> = workflow(arguments).into_iter().collect();
    kwargs.extend(arguments.key.as_deref().map(|key| ("key", key.into())));
    let first = PayloadBuf::of_kwargs(kwargs);
    let more = streaming::options(false);
    let request = client.send(uris::JOB_SUBMIT, more, first.as_payload()).await?;
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; READ_MAX];
    let mut credit = 0;
    loop {
        while credit == 0 {
            match client.answer(request).await? {
                Answer::Progress(part) => {
                    if let Some(Part::Credit(bytes)) = Part::parse(part.as_payload()) {
                        credit += bytes;
                    }
                }
                // Before its end it is an error, which is one above.
                Answer::Done(answer) => return id(&answer),
            }
        }
        let room = usize::try_from(credit).unwrap_or(READ_MAX).min(READ_MAX);
        let count = stdin.read(&mut buffer[..room]).await;
        let count = count.map_err(|error| Error::read("standard input", error))?;
        let mut bytes = Vec::with_capacity(count + 8);
        payload::write_bytes_arg(&mut bytes, &buffer[..count]);
        let chunk = PayloadBuf { parts: 1, bytes };
        let options = streaming::options(count == 0);
        client
            .chunk(request, uris::JOB_SUBMIT, options, chunk.as_payload())
            .await?;
        credit -= count as u64;
        if count == 0 {
            return accepted(&mut client, request).await;
        }
    }
}

async fn accepted(client: &mut Client, request: u64) -> Result<String, Error> {
    loop {
        if let Answer::Done(answer) = client.answer(request).await? {
            return id(&answer);
        }
    }
}

/// The ID in an answer.
pub fn id(answer: &PayloadBuf) -> Result<String, Error> {
    let job = crate::answer::first(answer)?;
    let id = job["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| Error::Local("the agent's answer names no job".into()))
}
