//! An attempt of a job: a run, begun and heard as any client does it, on a session of its own.
//!
//! ```text
//! pipes.run.start {line, options: {versions, job, attempt, timeout, ..}, stdin: b"..", eof: true, credit: 262144}
//!     <- [1, b"out"]    -> {credit: n}    kept in memory up to 16 KiB, else in a blob
//!     <- [0] {credit}   -> [b"in"]        input that is a blob
//!     <- the run, and {loss} where Pipes failed it
//! ```

use std::time::Duration;

use async_trait::async_trait;
use pipes_job::seams::{Ended, Order, Runs, Wanted};
use pipes_job::state::{LOST, TIMEOUT, Verdict};
use pipes_protocol::run::{Loss, Part};
use pipes_protocol::uris;
use pipes_router::{Role, Router};
use pipes_wamp::client::{Connection, Reader, Writer};
use pipes_wamp::error;
use pipes_wamp::message::{Message, Payload};
use pipes_wamp::payload::PayloadBuf;
use pipes_wamp::streaming::Caller;
use rmpv::Value;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::blob::{self, Blobs};
use crate::keys;
use crate::lifecycle::{Kind, Lifecycle};
use crate::workflow::daemon::known::Workflows;
use crate::workflow::daemon::record::{Definition, Workflow};
use crate::workflow::daemon::run_options;
use crate::workflow::jobs::output::Gathered;
use crate::workflow::jobs::terms;
use crate::workflow::runs::view::{Run, RunStage};

/// Bytes of output that may be on their way here.
const WINDOW: u64 = 256 << 10;
/// One read of input.
const READ_MAX: usize = 64 << 10;
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// After SIGKILL, what the run may take to say what became of it.
const GONE_WITHIN: Duration = Duration::from_secs(15);
/// The arguments of all stages that a job's record keeps; with more they are left out, as the workflow has them.
const ARGUMENTS_MAX: usize = 64 << 10;
/// The only call of the session.
const CALL: Caller<'static> = Caller {
    request: 1,
    procedure: uris::RUN_START,
};

/// Runs attempts.
pub(super) struct Attempts {
    pub(super) store: pipes_raft::Store,
    pub(super) router: Router,
    pub(super) blobs: Blobs,
    pub(super) workflows: Workflows,
    /// This node's name.
    pub(super) node: String,
    pub(super) lifecycle: Lifecycle,
}

#[async_trait]
impl Runs for Attempts {
    async fn run(&self, order: Order, wanted: watch::Receiver<Wanted>) -> Ended {
        match self.begin(order, wanted).await {
            Ok(attempt) => {
                let (mut done, ended) = oneshot::channel();
                self.lifecycle.spawn(Kind::Work, "attempt of a job", async move {
                    // Who no longer waits for it has it killed: its session ends with it.
                    tokio::select! {
                        ended = attempt.drive() => drop(done.send(ended)),
                        () = done.closed() => {}
                    }
                    Ok(())
                });
                ended.await.unwrap_or_else(|_| lost("the agent is stopping"))
            }
            Err(ended) => ended,
        }
    }
}

/// An attempt that is under way.
struct Attempt {
    replies: Reader,
    writer: Writer,
    blobs: Blobs,
    wanted: watch::Receiver<Wanted>,
    /// Input that is a blob, as long as there is more of it.
    input: Option<File>,
    /// Bytes of input that may be sent.
    credit: u64,
    output: Gathered,
    /// Bytes of output at most.
    output_max: u64,
    /// When SIGKILL follows, and when nobody waits any longer.
    deadlines: Deadlines,
}

#[derive(Default)]
struct Deadlines {
    kill: Option<Instant>,
    give_up: Option<Instant>,
}

impl Attempts {
    async fn begin(&self, order: Order, wanted: watch::Receiver<Wanted>) -> Result<Attempt, Ended> {
        let workflow = self.workflows.get(&order.workflow);
        let workflow = workflow.ok_or_else(|| lost("its workflow was removed"))?;
        // Another agent may have read of a change that this one has not.
        let newer = match terms::definition(&workflow, order.definition) {
            Some(_) => None,
            None => Some(self.read(&order.workflow).await.map_err(|why| lost(&why))?),
        };
        let workflow = newer.as_ref().unwrap_or(&workflow);
        // What is not kept any more cannot be run again.
        let definition = terms::definition(workflow, order.definition).unwrap_or(&workflow.definition);
        if order.timeout.is_some_and(|left| left.is_zero()) {
            return Err(refused(TIMEOUT, "the timeout ran out"));
        }
        let input = match order.content.digest() {
            None => None,
            Some(digest) => Some(self.open(&digest).await.map_err(|why| lost(&why))?),
        };
        let session = self.router.attach(uris::REALM_OPERATORS, Role::Agent);
        let session = session.map_err(|error| lost(&format!("the router gives no session: {error}")))?;
        let (replies, mut writer) = Connection::welcomed(session.stream).split();
        let mut kwargs = vec![
            ("line", Value::from(definition.line.as_str())),
            ("options", options(definition, &order, &self.node)),
            ("credit", WINDOW.into()),
        ];
        if let Some(bytes) = order.input {
            kwargs.extend([("stdin", Value::Binary(bytes)), ("eof", true.into())]);
        }
        CALL.chunk(&mut writer, PayloadBuf::of_kwargs(kwargs).as_payload(), false);
        Ok(Attempt {
            replies,
            writer,
            blobs: self.blobs.clone(),
            wanted,
            input,
            credit: 0,
            output: Gathered::new(),
            output_max: definition.options.body_max(),
            deadlines: Deadlines::default(),
        })
    }

    /// A workflow as a majority has it.
    async fn read(&self, name: &str) -> Result<Workflow, String> {
        let kept = self.store.get(keys::workflow(name)).await;
        let kept = kept.map_err(|error| error.to_people())?;
        let kept = kept.ok_or("its workflow was removed")?;
        Workflow::read(&kept.value).map_err(|error| format!("its workflow cannot be read: {error}"))
    }

    async fn open(&self, digest: &str) -> Result<File, String> {
        let digest = digest.parse().map_err(|_| format!("{digest} is no digest"))?;
        let path = self.blobs.ensure(&digest).await;
        let path = path.map_err(|error| format!("its input cannot be had: {error}"))?;
        File::open(&path)
            .await
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Why an attempt cannot go on.
enum Broken {
    /// There is no room for what it writes.
    NoRoom(String),
    /// Anything else that is Pipes' own affair.
    Lost(String),
}

impl Broken {
    fn ended(self) -> Ended {
        match self {
            Broken::NoRoom(why) => without_output(Verdict::NoRoom { why }),
            Broken::Lost(why) => lost(&why),
        }
    }
}

impl From<blob::Error> for Broken {
    fn from(error: blob::Error) -> Broken {
        let why = format!("its result cannot be kept: {error}");
        match error {
            blob::Error::NoRoom { .. } => Broken::NoRoom(why),
            _ => Broken::Lost(why),
        }
    }
}

/// What woke an attempt.
enum Event {
    /// The run is over.
    Over(Ended),
    /// So much came of stdout.
    Output(u64),
    /// So much more of stdin is taken.
    Credit(u64),
    /// So many bytes of input were read; 0 is its end.
    Input(usize),
    /// Something else is wanted.
    Wanted,
    /// A deadline is over, or something was written.
    Nothing,
}

impl Attempt {
    async fn drive(mut self) -> Ended {
        let mut buffer = vec![0; if self.input.is_some() { READ_MAX } else { 0 }];
        self.obey();
        loop {
            let event = match self.next(&mut buffer).await {
                Ok(event) => event,
                Err(broken) => return broken.ended(),
            };
            match event {
                Event::Over(ended) => return self.over(ended).await,
                Event::Output(bytes) => {
                    if self.output.len() > self.output_max {
                        let max = self.output_max;
                        return refused(LOST, &format!("its result is larger than {max} bytes"));
                    }
                    self.say(vec![("credit", bytes.into())]);
                }
                Event::Credit(bytes) => self.credit += bytes,
                Event::Input(0) => {
                    self.input = None;
                    self.say(vec![("eof", true.into())]);
                }
                Event::Input(count) => {
                    self.credit -= count as u64;
                    let bytes = &buffer[..count];
                    self.writer
                        .queue_bytes(bytes, |payload| CALL.chunk_message(payload, false));
                }
                Event::Wanted => self.obey(),
                Event::Nothing => {
                    if let Some(ended) = self.on_deadlines() {
                        return ended;
                    }
                }
            }
        }
    }

    /// Whatever happens first.
    async fn next(&mut self, buffer: &mut [u8]) -> Result<Event, Broken> {
        let Attempt {
            replies,
            writer,
            blobs,
            wanted,
            input,
            credit,
            output,
            deadlines,
            ..
        } = self;
        let room = usize::try_from(*credit).unwrap_or(usize::MAX).min(buffer.len());
        let read = async {
            match input {
                Some(file) if room > 0 => file.read(&mut buffer[..room]).await,
                _ => std::future::pending().await,
            }
        };
        let due = deadlines.kill.into_iter().chain(deadlines.give_up).min();
        let pending = writer.pending();
        tokio::select! {
            biased;
            reply = replies.next() => match reply {
                Ok(Some(Message::Result { progress: true, payload, .. })) => match Part::parse(payload) {
                    Some(Part::Stdout(bytes)) => {
                        output.add(blobs, bytes).await?;
                        Ok(Event::Output(bytes.len() as u64))
                    }
                    Some(Part::Credit(bytes)) => Ok(Event::Credit(bytes)),
                    _ => Ok(Event::Nothing),
                },
                Ok(Some(Message::Result { payload, .. })) => Ok(Event::Over(ended(payload))),
                Ok(Some(Message::Error { error, payload, .. })) => Ok(Event::Over(failed(error, payload))),
                Ok(Some(_)) => Ok(Event::Nothing),
                Ok(None) | Err(_) => Err(Broken::Lost("its coordinator's session ended".into())),
            },
            written = writer.flush(), if pending > 0 => match written {
                Ok(()) => Ok(Event::Nothing),
                Err(error) => Err(Broken::Lost(error.to_string())),
            },
            Ok(()) = wanted.changed() => Ok(Event::Wanted),
            read = read => read
                .map(Event::Input)
                .map_err(|error| Broken::Lost(format!("its input cannot be read: {error}"))),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Ok(Event::Nothing),
        }
    }

    /// Does what is wanted now.
    fn obey(&mut self) {
        let wanted = *self.wanted.borrow_and_update();
        if wanted >= Wanted::Terminate && self.deadlines.kill.is_none() {
            self.say(vec![("signal", "TERM".into())]);
            self.deadlines.kill = Some(Instant::now() + GRACE);
        }
    }

    fn on_deadlines(&mut self) -> Option<Ended> {
        let now = Instant::now();
        if self.deadlines.give_up.is_some_and(|at| now >= at) {
            return Some(lost("it did not end in time"));
        }
        if self.deadlines.give_up.is_none() && self.deadlines.kill.is_some_and(|at| now >= at) {
            self.say(vec![("signal", "KILL".into())]);
            let give_up = now + GONE_WITHIN;
            self.deadlines = Deadlines {
                kill: Some(give_up),
                give_up: Some(give_up),
            };
        }
        None
    }

    fn say(&mut self, kwargs: Vec<(&str, Value)>) {
        CALL.chunk(
            &mut self.writer,
            PayloadBuf::of_kwargs(kwargs).as_payload(),
            false,
        );
    }

    /// The run is over, and all its output came before.
    async fn over(self, mut ended: Ended) -> Ended {
        if matches!(ended.verdict, Verdict::Lost { .. }) {
            return ended;
        }
        match self.output.finish().await {
            Ok(output) => ended.output = Some(output),
            Err(error) => return Broken::from(error).ended(),
        }
        ended
    }
}

/// Options of the run, by the long names that `pipes.run.start` knows.
fn options(definition: &Definition, order: &Order, node: &str) -> Value {
    let here = order.is_alone.then_some(node);
    let mut options = run_options::of(&order.workflow, definition, here);
    options.push(("job".into(), order.job.as_str().into()));
    options.push(("attempt".into(), order.attempt.into()));
    let left = order.timeout.map(|left| left.as_secs_f64());
    options.extend(left.map(|seconds| ("timeout".into(), seconds.into())));
    Value::Map(options)
}

/// What a run's answer means for the job.
fn ended(answer: Payload<'_>) -> Ended {
    let run: Run = match answer.first_as() {
        Ok(run) => run,
        Err(error) => return lost(&format!("the run's answer cannot be read: {error}")),
    };
    let status = run.exit.or(run.status).unwrap_or(LOST);
    let message = run.message.or(run.reason);
    let verdict = match (Loss::of(answer), message) {
        (Some(loss), message) => Verdict::Lost {
            why: message.unwrap_or_else(|| "the run was lost".into()),
            is_server: loss == Loss::Server,
        },
        (None, Some(reason)) => Verdict::Refused { status, reason },
        (None, None) => Verdict::Exited(status),
    };
    Ended {
        verdict,
        stages: stages(run.stages),
        output: None,
    }
}

fn stages(mut stages: Vec<RunStage>) -> serde_json::Value {
    let arguments = stages.iter().flat_map(|stage| &stage.args);
    if arguments.map(String::len).sum::<usize>() > ARGUMENTS_MAX {
        stages.iter_mut().for_each(|stage| stage.args.clear());
    }
    // Text, numbers and lists: always encodable.
    serde_json::to_value(stages).unwrap_or_default()
}

/// What it means that there was no run.
fn failed(uri: &str, payload: Payload<'_>) -> Ended {
    let why = payload.sentence();
    match uri {
        uris::error::UNKNOWN_SERVICE => refused(127, &why),
        uris::error::USAGE | uris::error::SYNTAX => refused(LOST, &why),
        uri => lost(if why.is_empty() {
            error::to_people(uri)
        } else {
            &why
        }),
    }
}

fn lost(why: &str) -> Ended {
    let verdict = Verdict::Lost {
        why: why.to_owned(),
        is_server: false,
    };
    without_output(verdict)
}

fn refused(status: i32, reason: &str) -> Ended {
    let reason = reason.to_owned();
    without_output(Verdict::Refused { status, reason })
}

fn without_output(verdict: Verdict) -> Ended {
    Ended {
        verdict,
        stages: serde_json::Value::Array(Vec::new()),
        output: None,
    }
}

#[cfg(test)]
mod tests;
