//! `pipes.job.submit|get|result|list|cancel|retry`: durable queries of daemon workflows.
//!
//! ```text
//! submit  {workflow, key, input}   or {workflow, key, length} [bytes] [bytes] ... against [0] {credit}   -> {id, state}
//! result  {id, wait, from, credit}   [1, bytes] [1, bytes] ... against {credit}                          -> the job
//! get     {id, wait} -> the job      list {workflow, state, limit, after} -> {jobs, next}
//! cancel  {id} -> the job            retry {id} -> {id, state}
//! ```
//!
//! `short`, which people's clients say, lets `id` be a beginning or end of one job's ID.

use std::time::Duration;

use pipes_job::record::{Content, DoneState, OpenState};
use pipes_job::seams::Output;
use pipes_job::{Accepted, Found, Input, Question, Request, Which};
use pipes_protocol::run::Part;
use pipes_protocol::uris;
use pipes_wamp::client::Reader;
use pipes_wamp::message::{Message, Payload};
use pipes_wamp::payload::{self, PayloadBuf};
use rmpv::Value;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::api::arguments::Arguments;
use crate::api::streaming::{self, Caller, gone};
use crate::api::{Api, Error, attempt, error, value};
use crate::blob::Digest;
use crate::workflow::daemon::record::Wish;
use crate::workflow::jobs::Gathered;
use crate::workflow::jobs::view;
use crate::workflow::options::{BODY_MAX, WAIT_MAX};
use pipes_router::OwnSession;

/// Bytes of input that a caller may have under way.
const WINDOW: u64 = 1 << 20;
/// What an agent that stops gives submissions that are under way: a job that was accepted is to be told.
const STOPS_AFTER: Duration = Duration::from_secs(2);
/// One read of a result, and one part of the answer.
const PART_MAX: usize = 64 << 10;
/// Results of so many bytes are shown as text, where they are.
const TEXT_MAX: u64 = 64 << 10;
/// Jobs of a listing, unless told otherwise.
const LIMIT: usize = 100;

/// Serves one call of `pipes.job.submit`, on a session of its own.
pub(super) async fn submit(api: &Api, own: OwnSession) {
    let Some((mut chunks, mut caller, asked)) = streaming::accept(api, uris::JOB_SUBMIT, own.stream).await
    else {
        return;
    };
    let stopped = async {
        api.lifecycle.stopping().cancelled().await;
        tokio::time::sleep(STOPS_AFTER).await;
    };
    let accepted = tokio::select! {
        accepted = accept(api, asked, &mut chunks, &mut caller) => accepted,
        () = stopped => Err(Error::Unavailable(
            "the agent is stopping, and the job may have been accepted; ask another with the same key".into(),
        )),
    };
    let answer = accepted.map(|value| PayloadBuf::of_values(vec![value], None));
    caller.end(answer).await;
}

async fn accept(
    api: &Api,
    asked: Result<Arguments, Error>,
    chunks: &mut Reader,
    caller: &mut Caller,
) -> Result<Value, Error> {
    let mut arguments = asked?;
    let workflow = match arguments.take("workflow") {
        Some(name) => text(&name, "workflow")?,
        None => only_workflow(api)?,
    };
    let takes_jobs = async { Ok(api.jobs.takes_jobs(&workflow).await?) };
    error::decided(&api.quorum, takes_jobs).await?;
    // Few bytes too: what little room is left is for what was accepted.
    api.blobs.has_room()?;
    let key = arguments.take("key").map(|key| text(&key, "key")).transpose()?;
    let max = match api.workflows.get(&workflow) {
        Some(workflow) => workflow.definition.options.body_max(),
        None => BODY_MAX,
    };
    let input = match arguments.take("input") {
        Some(Value::Binary(bytes)) => gather(api, &bytes, max).await?,
        Some(Value::String(text)) => gather(api, text.as_bytes(), max).await?,
        Some(_) => return Err(Error::Usage("input must be bytes or text".into())),
        None => {
            let length = arguments.number("length");
            if length.is_some_and(|length| length > max) {
                return Err(too_large(max));
            }
            receive(api, chunks, caller, max, length).await?
        }
    };
    let request = Request {
        workflow,
        key,
        input,
        retry_of: None,
    };
    let submitted = async { Ok(api.jobs.submit(request).await?) };
    let accepted = error::decided(&api.quorum, submitted).await?;
    id_of(api, accepted).await
}

async fn id_of(api: &Api, accepted: Accepted) -> Result<Value, Error> {
    // One that was known before may be over by now.
    let state = match accepted.was_known {
        true => view::of(&api.jobs.look(&accepted.id).await?).state,
        false => "queued",
    };
    Ok(Value::Map(vec![
        ("id".into(), accepted.id.into()),
        ("state".into(), state.into()),
    ]))
}

/// The one that runs, where a client names none.
fn only_workflow(api: &Api) -> Result<String, Error> {
    let all = api.workflows.all();
    let mut running = all.values().filter(|workflow| workflow.wish == Wish::Running);
    match (running.next(), running.next()) {
        (Some(only), None) => Ok(only.name.clone()),
        (None, _) => Err(Error::NotFound(
            "no workflow runs; start one with: pipes run -d \"...\"".into(),
        )),
        (Some(_), Some(_)) => Err(Error::Usage(
            "several workflows run; say which one with -w".into(),
        )),
    }
}

async fn gather(api: &Api, bytes: &[u8], max: u64) -> Result<Input, Error> {
    let mut gathered = Gathered::new();
    gathered.add(&api.blobs, bytes).await?;
    match gathered.len() > max {
        true => Err(too_large(max)),
        false => kept(gathered).await,
    }
}

/// Takes the input as it comes, against credit.
async fn receive(
    api: &Api,
    chunks: &mut Reader,
    caller: &mut Caller,
    max: u64,
    length: Option<u64>,
) -> Result<Input, Error> {
    let mut gathered = Gathered::new();
    if !caller.is_whole {
        caller.part(&Part::Credit(WINDOW).encode()).await?;
    }
    let mut is_last = caller.is_whole;
    while !is_last {
        let Ok(Some(Message::Invocation { details, payload, .. })) = chunks.next().await else {
            return Err(gone());
        };
        let bytes = payload::bytes_arg(payload).unwrap_or_default();
        gathered.add(&api.blobs, bytes).await?;
        if gathered.len() > max {
            return Err(too_large(max));
        }
        is_last = !details.progress;
        let count = bytes.len() as u64;
        if !is_last {
            caller.part(&Part::Credit(count).encode()).await?;
        }
    }
    if length.is_some_and(|length| length != gathered.len()) {
        let came = gathered.len();
        return Err(Error::Usage(format!(
            "{came} bytes of input came, and others were announced"
        )));
    }
    kept(gathered).await
}

async fn kept(gathered: Gathered) -> Result<Input, Error> {
    Ok(match gathered.finish().await? {
        Output::Small(bytes) => Input::Small(bytes),
        Output::Blob(content) => Input::Blob(content),
    })
}

fn too_large(max: u64) -> Error {
    Error::TooLarge(format!(
        "the input is larger than the {max} bytes that the workflow takes"
    ))
}

/// Serves one call of `pipes.job.get`, on a session of its own: many may wait.
pub(super) async fn get(api: &Api, own: OwnSession) {
    let Some((mut chunks, caller, asked)) = streaming::accept(api, uris::JOB_GET, own.stream).await else {
        return;
    };
    let got = async {
        let found = waited(api, &mut asked?, &mut chunks, &mut None).await?;
        shown(api, &found).await
    };
    let got = api.lifecycle.stopping().run_until_cancelled(got).await;
    let got = got.unwrap_or(Err(Error::Stopping));
    caller
        .end(got.map(|job| PayloadBuf::of_values(vec![job], None)))
        .await;
}

/// The job that is meant, once it has ended or the time is over; credit that comes meanwhile is added.
async fn waited(
    api: &Api,
    arguments: &mut Arguments,
    chunks: &mut Reader,
    credit: &mut Option<u64>,
) -> Result<Found, Error> {
    let found = async {
        let id = id(api, arguments).await?;
        let longest = wait(arguments)?;
        Ok::<Found, Error>(api.jobs.wait(&id, longest).await?)
    };
    tokio::pin!(found);
    loop {
        tokio::select! {
            found = &mut found => return found,
            said = chunks.next() => match said {
                Ok(Some(Message::Invocation { payload, .. })) => add_credit(credit, payload)?,
                Ok(Some(Message::Interrupt { .. }) | None) | Err(_) => return Err(gone()),
                Ok(Some(_)) => {}
            },
        }
    }
}

fn add_credit(credit: &mut Option<u64>, payload: Payload<'_>) -> Result<(), Error> {
    let given = Arguments::of(payload)?.number("credit").unwrap_or(0);
    *credit = credit.map(|credit| credit.saturating_add(given));
    Ok(())
}

/// `pipes.job.cancel`
pub(super) async fn cancel(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let id = id(api, arguments).await?;
    let found = api.jobs.cancel(&id).await?;
    shown(api, &found).await
}

/// `pipes.job.retry`
pub(super) async fn retry(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let id = id(api, arguments).await?;
    let Found::Done { workflow, done, .. } = api.jobs.look(&id).await? else {
        return Err(Error::Unfinished(format!(
            "job {id} has not ended yet; cancel it first"
        )));
    };
    api.blobs.has_room()?;
    let input = match api.jobs.input(&id, &done.input).await? {
        Some(bytes) => Input::Small(bytes),
        None => Input::Blob(done.input),
    };
    let request = Request {
        workflow,
        key: None,
        input,
        retry_of: Some(id),
    };
    id_of(api, api.jobs.submit(request).await?).await
}

/// `pipes.job.list`
pub(super) async fn list(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let given = |value: Option<Value>, what| value.map(|value| text(&value, what)).transpose();
    let workflow = given(arguments.take("workflow"), "workflow")?;
    if let Some(name) = &workflow
        && api.workflows.get(name).is_none()
        && api.store.get(crate::keys::workflow(name)).await?.is_none()
    {
        return Err(Error::NotFound(format!("there is no workflow {name}")));
    }
    let which = match given(arguments.take("state"), "state")?.as_deref() {
        None => Which::All,
        Some("queued") => Which::Open(OpenState::Queued),
        Some("running") => Which::Open(OpenState::Running),
        Some("succeeded") => Which::Done(DoneState::Succeeded),
        Some("failed") => Which::Done(DoneState::Failed),
        Some("cancelled") => Which::Done(DoneState::Cancelled),
        Some(other) => {
            return Err(Error::Usage(format!(
                "there is no state '{other}': it is queued, running, succeeded, failed or cancelled"
            )));
        }
    };
    let limit = arguments
        .number("limit")
        .map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(LIMIT));
    let question = Question {
        workflow,
        which,
        limit,
        after: given(arguments.take("after"), "after")?,
    };
    let page = api.jobs.list(&question).await?;
    let jobs: Vec<view::Job> = page.jobs.iter().map(view::of).collect();
    Ok(Value::Map(vec![
        ("jobs".into(), value(&jobs)),
        ("next".into(), page.next.map_or(Value::Nil, Value::from)),
    ]))
}

/// Serves one call of `pipes.job.result`, on a session of its own.
pub(super) async fn result(api: &Api, own: OwnSession) {
    let Some((mut chunks, mut caller, asked)) = streaming::accept(api, uris::JOB_RESULT, own.stream).await
    else {
        return;
    };
    let stopping = api.lifecycle.stopping();
    let sent = stopping
        .run_until_cancelled(send(api, asked, &mut chunks, &mut caller))
        .await;
    let sent = sent.unwrap_or(Err(Error::Stopping));
    caller
        .end(sent.map(|job| PayloadBuf::of_values(vec![job], None)))
        .await;
}

async fn send(
    api: &Api,
    asked: Result<Arguments, Error>,
    chunks: &mut Reader,
    caller: &mut Caller,
) -> Result<Value, Error> {
    let mut arguments = asked?;
    let mut credit = arguments.number("credit");
    let from = arguments.number("from").unwrap_or(0);
    let found = waited(api, &mut arguments, chunks, &mut credit).await?;
    let Found::Done { id, done, .. } = &found else {
        return Err(Error::Unfinished(format!("job {} has not ended yet", found.id())));
    };
    if let Some(content) = &done.result {
        let mut sending = Sending {
            chunks,
            caller,
            credit,
        };
        match api.jobs.result(id, content).await? {
            Some(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
                for part in bytes[from..].chunks(PART_MAX) {
                    sending.part(part).await?;
                }
            }
            None => {
                let (path, mut file) = open(api, content).await?;
                let failed = |error| Error::Unavailable(format!("{}: {error}", path.display()));
                file.seek(std::io::SeekFrom::Start(from)).await.map_err(failed)?;
                let mut buffer = vec![0; PART_MAX];
                loop {
                    match file.read(&mut buffer).await.map_err(failed)? {
                        0 => break,
                        count => sending.part(&buffer[..count]).await?,
                    }
                }
            }
        }
    }
    shown(api, &found).await
}

/// Sends parts as there is credit; `None`: the caller takes all.
struct Sending<'a> {
    chunks: &'a mut Reader,
    caller: &'a mut Caller,
    credit: Option<u64>,
}

impl Sending<'_> {
    async fn part(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = self.credit.map_or(u64::MAX, |credit| credit);
            let count = rest.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            if count == 0 {
                self.more().await?;
                continue;
            }
            let (now, later) = rest.split_at(count);
            self.caller.part(&Part::Stdout(now).encode()).await?;
            self.credit = self.credit.map(|credit| credit - count as u64);
            rest = later;
        }
        Ok(())
    }

    /// Waits for more credit.
    async fn more(&mut self) -> Result<(), Error> {
        let Ok(Some(Message::Invocation { payload, .. })) = self.chunks.next().await else {
            return Err(gone());
        };
        add_credit(&mut self.credit, payload)
    }
}

/// A job as it is shown alone: with its result as text, where it is one.
async fn shown(api: &Api, found: &Found) -> Result<Value, Error> {
    let mut job = view::of(found);
    if let Found::Open(_) = found {
        job.stages = attempt::stages(api, found).await;
    }
    if let (Found::Done { id, done, .. }, Some(made)) = (found, &mut job.result)
        && let Some(content) = done.result.as_ref().filter(|content| content.bytes <= TEXT_MAX)
    {
        // A job whose result cannot be had is shown all the same.
        made.text = bytes_of(api, id, content)
            .await
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
    }
    Ok(value(&job))
}

async fn bytes_of(api: &Api, id: &str, content: &Content) -> Result<Vec<u8>, Error> {
    if let Some(bytes) = api.jobs.result(id, content).await? {
        return Ok(bytes);
    }
    let (path, mut file) = open(api, content).await?;
    let mut bytes = Vec::new();
    let read = file.read_to_end(&mut bytes).await;
    read.map_err(|error| Error::Unavailable(format!("{}: {error}", path.display())))?;
    Ok(bytes)
}

async fn open(api: &Api, content: &Content) -> Result<(std::path::PathBuf, File), Error> {
    let digest = content.digest().unwrap_or_default();
    let digest: Digest = digest
        .parse()
        .map_err(|_| Error::Unavailable("the result's digest cannot be read".into()))?;
    let path = api.blobs.ensure(&digest).await?;
    let file = File::open(&path).await;
    let file = file.map_err(|error| Error::Unavailable(format!("{}: {error}", path.display())))?;
    Ok((path, file))
}

/// The job that is meant.
async fn id(api: &Api, arguments: &mut Arguments) -> Result<String, Error> {
    let given = arguments.text("id")?;
    match arguments.flag("short") {
        true => whole_id(api, &given).await,
        false => Ok(given),
    }
}

/// The ID of the one job whose ID begins or ends so.
pub(super) async fn whole_id(api: &Api, given: &str) -> Result<String, Error> {
    match api.jobs.find(given).await? {
        Ok(id) => Ok(id),
        Err(several) => Err(Error::Usage(format!(
            "{given} names several jobs, {} and others; give more of the ID",
            several[..several.len().min(2)].join(", ")
        ))),
    }
}

fn wait(arguments: &mut Arguments) -> Result<Duration, Error> {
    let seconds = arguments.seconds("wait").unwrap_or(0.0);
    let wait = Duration::try_from_secs_f64(seconds);
    let wait = wait.map_err(|_| Error::Usage("wait must be a number of seconds".into()))?;
    Ok(wait.min(WAIT_MAX))
}

fn text(value: &Value, what: &str) -> Result<String, Error> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| Error::Usage(format!("{what} must be text")))
}

impl From<pipes_job::Error> for Error {
    fn from(error: pipes_job::Error) -> Error {
        use pipes_job::Error as Job;
        let said = error.to_string();
        match error {
            Job::NoJob(_) | Job::NoWorkflow(_) => Error::NotFound(said),
            Job::Conflict(_) => Error::Conflict(said),
            Job::Full { .. } => Error::Full(said),
            Job::Stopped(_) | Job::BlobMissing(_) | Job::NotPresent => Error::Unavailable(said),
            Job::Store(error) => error.into(),
        }
    }
}
