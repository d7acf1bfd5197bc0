//! `pipes result [JOB]`

use std::time::{Duration, Instant};

use pipes_protocol::run::Part;
use pipes_protocol::uris;
use pipes_wamp::error::uri;
use pipes_wamp::payload::PayloadBuf;
use pipes_wamp::streaming;
use rmpv::Value;
use tokio::time::sleep;

use crate::client::{self, Answer, Client};
use crate::context::{Contexts, Target};
use crate::error::Error;
use crate::exit::{self, Outcome};
use crate::object::{self, Job};
use crate::{last, output};

/// Waits for a job, writes its result, and ends as it did
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A job, by a unique beginning or ending of its ID; else the last one
    #[arg(value_name = "JOB")]
    job: Option<String>,
}

/// Bytes of a result that may be on their way.
const WINDOW: u64 = 1 << 20;
/// One call waits so long; then it is made again.
const WAIT: f64 = 60.0;
/// After so long without an answer a command gives up: a cluster that elects a leader, or an agent that starts, takes less.
const TROUBLE_MAX: Duration = Duration::from_secs(30);
/// Between two tries.
const REST: Duration = Duration::from_millis(250);

/// How long a command that may simply be done again puts up with agents that go away.
#[derive(Debug, Default)]
pub struct Patience {
    since: Option<Instant>,
}

impl Patience {
    /// Whether it is to be tried again after this error.
    pub fn has_more(&mut self, error: &Error) -> bool {
        let is_passing = match error {
            Error::Lost { .. } => true,
            error => client::was_not_taken_up(error) || error.uri() == Some(uri::CANCELED),
        };
        is_passing && self.since.get_or_insert_with(Instant::now).elapsed() < TROUBLE_MAX
    }

    /// All is well again.
    pub fn reset(&mut self) {
        self.since = None;
    }

    /// Rests before the next try.
    pub async fn rest(&self) {
        sleep(REST).await;
    }
}

pub fn run(arguments: Arguments) -> Outcome {
    let done = client::block_on(async {
        let target = Contexts::open()?.target()?;
        let id = last::or_last(arguments.job.as_deref(), &target.name)?;
        fetch(&target, &id).await
    });
    done.unwrap_or_else(|error| {
        output::error::show(&error);
        exit::of_run_error(&error)
    })
}

/// Waits for a job and writes its result; goes on at another agent, from where it was, where one is lost.
pub async fn fetch(target: &Target, id: &str) -> Result<Outcome, Error> {
    let mut patience = Patience::default();
    let mut from = 0;
    loop {
        let before = from;
        match fetch_from(target, id, &mut from).await {
            Ok(Some(outcome)) => return Ok(outcome),
            Ok(None) => patience.reset(),
            // No leader yet, perhaps: the job is safe all the same.
            Err(error) if error.uri() == Some(uris::error::UNAVAILABLE) && patience.is_bearable() => {
                patience.rest().await;
            }
            Err(error) if patience.has_more(&error) => patience.rest().await,
            Err(error) => return Err(error),
        }
        if from > before {
            patience.reset();
        }
    }
}

impl Patience {
    fn is_bearable(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() < TROUBLE_MAX
    }
}

/// One call; `None`: it has not ended yet.
async fn fetch_from(target: &Target, id: &str, from: &mut u64) -> Result<Option<Outcome>, Error> {
    let mut client = Client::connect(target).await?;
    let asked = PayloadBuf::of_kwargs(vec![
        ("id", id.into()),
        ("short", true.into()),
        ("wait", WAIT.into()),
        ("from", (*from).into()),
        ("credit", WINDOW.into()),
    ]);
    let more = streaming::options(false);
    let request = client.send(uris::JOB_RESULT, more, asked.as_payload()).await?;
    loop {
        let part = match client.answer(request).await {
            Ok(Answer::Progress(part)) => part,
            Ok(Answer::Done(answer)) => return ended(crate::answer::first(&answer)?).map(Some),
            Err(error) if error.uri() == Some(uris::error::UNFINISHED) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(Part::Stdout(bytes)) = Part::parse(part.as_payload()) else {
            continue;
        };
        if !output::write(bytes)? {
            return Ok(Some(Outcome::Signal(libc::SIGPIPE)));
        }
        let count = bytes.len() as u64;
        *from += count;
        let credit = PayloadBuf::of_kwargs(vec![("credit", count.into())]);
        client
            .chunk(request, uris::JOB_RESULT, more, credit.as_payload())
            .await?;
    }
}

/// As the job ended.
fn ended(job: Value) -> Result<Outcome, Error> {
    let job: Job = object::parse(job)?;
    let id = job.id.unwrap_or_default();
    match (job.state.as_deref(), job.reason) {
        (Some("cancelled"), _) => output::error::note(&format!("job {id} was cancelled")),
        (_, Some(reason)) => output::error::say(&reason),
        _ => {}
    }
    let status = job.status.unwrap_or(i32::from(exit::RUN_FAILED));
    Ok(Outcome::of_run(status))
}
