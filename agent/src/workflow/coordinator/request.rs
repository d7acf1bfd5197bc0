//! What a caller of `pipes.run.start` sends: the request itself, then chunks.
//!
//! ```text
//! first   {line: "yes | head -5", options: {place: {"1": "n1"}}, credit: 1048576}
//! then    [b"input"]   {signal: "INT"}   {credit: 65536}   {eof: true}   {closed: 1}
//! ```
//!
//! Always: (1) the caller may send stdin only against credit; (2) a chunk without `progress` ends stdin; (3) what is
//! not known is ignored. Not here: what is done about any of it (`bridge.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use pipes_protocol::descriptor::{Descriptor, Descriptors};
use pipes_protocol::stage::File;
use pipes_wamp::message::{InvocationDetails, Payload};
use pipes_wamp::payload;
use rmpv::Value;

use crate::workflow::coordinator::error::Error;
use crate::workflow::options::{self, bytes, entries, flag, text};
use crate::workflow::runs::signal::Signal;

/// The first chunk of the call, decoded.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The workflow's line as typed.
    pub line: String,
    /// Options by their long names.
    pub options: Options,
    /// Standard input given whole, with the first chunk.
    pub stdin: Option<Vec<u8>>,
    /// Bytes of output the caller takes; `None`: all, without asking.
    pub credit: Option<u64>,
    /// There is no stdin beyond what was given whole.
    pub eof: bool,
    /// What nobody reads.
    pub closed: Option<Stream>,
    /// A signal for every stage, which ends the run before they start.
    pub signal: Option<Signal>,
    /// What the caller has at 0, 1 and 2.
    pub descriptors: Descriptors,
    /// Whether progressive results are taken; without, output has nowhere to go.
    pub takes_progress: bool,
}

/// Options of a run, by the long names of the command line.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The status is the last stage's that failed.
    pub pipefail: bool,
    /// Ends the run with status 124.
    pub timeout: Option<Duration>,
    /// Variables for every stage; `LANG`, `LC_*` and `TZ` of the caller among them.
    pub env: Vec<(String, Vec<u8>)>,
    /// STAGE to NODE, as written.
    pub place: BTreeMap<String, String>,
    /// Files that lie in each stage's working directory.
    pub files: Vec<File>,
    /// Bytes that each stage's scratch directory may hold; `None`: what keeps a part of its disk free.
    pub scratch: Option<u64>,
    /// No warm replica.
    pub fresh: bool,
    /// A server lost after the start: once more, when nothing was read or written yet.
    pub retry: bool,
    /// The caller is told the run's ID as soon as it is accepted: the gateway.
    pub announce: bool,
    /// The version of each stage, in the line's order, for those who have looked them up before: daemon workflows.
    pub versions: Vec<String>,
    /// The job that this run is an attempt of, which keeps its record; the stages see its ID.
    pub job: Option<String>,
    /// Which attempt of the job, from 1.
    pub attempt: u32,
    /// The daemon workflow that it is a request of.
    pub workflow: Option<String>,
}

/// One later chunk, or what else the first one carries.
#[derive(Debug, Default, PartialEq)]
pub struct Chunk<'a> {
    /// Bytes of standard input.
    pub stdin: Option<&'a [u8]>,
    /// A signal for every stage.
    pub signal: Option<Signal>,
    /// More bytes of output the caller takes.
    pub credit: u64,
    /// Standard input ends here.
    pub eof: bool,
    /// What of the caller's nobody reads any more.
    pub closed: Option<Stream>,
}

/// Where a stage writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The last stage's standard output.
    Stdout,
    /// Every stage's standard error.
    Stderr,
}

impl Request {
    /// Decodes the first chunk: the call's details and keyword arguments.
    pub fn parse(payload: Payload<'_>, details: &InvocationDetails<'_>) -> Result<Request, Error> {
        let mut request = Request {
            takes_progress: details.receive_progress,
            ..Request::default()
        };
        let kwargs = payload
            .kwargs()
            .map_err(|error| Error::Usage(error.to_string()))?;
        for (key, value) in kwargs {
            match key.as_str() {
                "line" => request.line = text(value, "line")?,
                "options" => request.options = Options::parse(value)?,
                "stdin" => request.stdin = Some(bytes(value, "stdin")?),
                "credit" => request.credit = value.as_u64(),
                "descriptors" => request.descriptors = descriptors(value)?,
                _ => {}
            }
        }
        if request.line.trim().is_empty() {
            return Err(Error::Usage(
                "the line is empty: give a workflow such as \"a | b\"".into(),
            ));
        }
        let mut chunk = Chunk::begin(details.progress);
        chunk.read_kwargs(payload)?;
        (request.eof, request.closed, request.signal) = (chunk.eof, chunk.closed, chunk.signal);
        Ok(request)
    }
}

impl Options {
    fn parse(value: Value) -> Result<Options, Error> {
        let mut parsed = Options::default();
        for (key, value) in entries(value, "options")? {
            match key.as_str() {
                "pipefail" => parsed.pipefail = flag(&value, "pipefail")?,
                "fresh" => parsed.fresh = flag(&value, "fresh")?,
                "announce" => parsed.announce = flag(&value, "announce")?,
                "retry" => parsed.retry = flag(&value, "retry")?,
                "timeout" => parsed.timeout = options::seconds(&value, "timeout")?,
                "env" => parsed.env.extend(options::variables(value)?),
                "place" => parsed.place.extend(options::places(value)?),
                "versions" => parsed.versions = versions(value)?,
                "job" => parsed.job = Some(text(value, "job")?),
                "attempt" => parsed.attempt = attempt(&value)?,
                "workflow" => parsed.workflow = Some(text(value, "workflow")?),
                "scratch" => parsed.scratch = options::size(&value, "scratch")?,
                "file" => parsed.files = options::files(value)?,
                name => options::refuse_beyond_process(name)?,
            }
        }
        Ok(parsed)
    }
}

impl<'a> Chunk<'a> {
    /// Decodes a later chunk; `progress` false ends stdin. The usual one, bytes alone, is not copied.
    pub fn parse(payload: Payload<'a>, progress: bool) -> Result<Chunk<'a>, Error> {
        let mut chunk = Chunk::begin(progress);
        if payload.parts == 1 {
            chunk.stdin = payload::bytes_arg(payload);
            return Ok(chunk);
        }
        if payload.parts == 2 {
            chunk.read_kwargs(payload)?;
            chunk.stdin = payload::bytes_arg(payload);
        }
        Ok(chunk)
    }

    fn begin(progress: bool) -> Chunk<'a> {
        Chunk {
            eof: !progress,
            ..Chunk::default()
        }
    }

    fn read_kwargs(&mut self, payload: Payload<'_>) -> Result<(), Error> {
        for (key, value) in payload
            .kwargs()
            .map_err(|error| Error::Usage(error.to_string()))?
        {
            match key.as_str() {
                "signal" => {
                    let name = text(value, "signal")?;
                    self.signal = Some(Signal::parse(&name).ok_or_else(|| no_signal(&name))?);
                }
                "credit" => self.credit = value.as_u64().unwrap_or(0),
                "eof" => self.eof |= value.as_bool().unwrap_or(false),
                "closed" => self.closed = closed(&value)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn no_signal(name: &str) -> Error {
    let known = Signal::NAMES.map(|(name, _)| name).join(", ");
    Error::Usage(format!(
        "there is no signal {name} for a run: send one of {known}"
    ))
}

/// What nobody reads; `true` as callers said it that knew of stdout alone.
fn closed(value: &Value) -> Result<Option<Stream>, Error> {
    match (value.as_u64(), value.as_bool()) {
        (Some(1), _) | (_, Some(true)) => Ok(Some(Stream::Stdout)),
        (Some(2), _) => Ok(Some(Stream::Stderr)),
        (_, Some(false)) => Ok(None),
        _ => Err(Error::Usage("closed must be 1, stdout, or 2, stderr".into())),
    }
}

fn descriptors(value: Value) -> Result<Descriptors, Error> {
    let refuse = || Error::Usage("descriptors must be three names of what is at 0, 1 and 2".into());
    let Value::Array(names) = value else {
        return Err(refuse());
    };
    let known = names.iter().map(|name| Descriptor::parse(name.as_str()?));
    let known: Vec<Descriptor> = known.collect::<Option<_>>().ok_or_else(refuse)?;
    known.try_into().map_err(|_| refuse())
}

/// Digests as they were looked up before.
fn versions(value: Value) -> Result<Vec<String>, Error> {
    let Value::Array(digests) = value else {
        return Err(Error::Usage("versions must be a list of digests".into()));
    };
    let digests = digests.into_iter();
    digests.map(|digest| Ok(text(digest, "versions")?)).collect()
}

fn attempt(value: &Value) -> Result<u32, Error> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| Error::Usage("attempt must be a whole number".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::options::BEYOND_PROCESS;
    use pipes_wamp::payload::PayloadBuf;

    fn kwargs(pairs: Vec<(&str, Value)>) -> PayloadBuf {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| (Value::from(key), value))
            .collect();
        PayloadBuf::of_values(Vec::new(), Some(Value::Map(pairs)))
    }

    #[test]
    fn a_request_has_a_line_and_options() {
        let options = Value::Map(vec![
            ("pipefail".into(), true.into()),
            ("timeout".into(), 1.5.into()),
            ("scratch".into(), 4_096.into()),
            ("place".into(), Value::Map(vec![("1".into(), "n2".into())])),
        ]);
        let payload = kwargs(vec![
            ("line", "a | b".into()),
            ("options", options),
            ("new", 1.into()),
        ]);
        let request = Request::parse(payload.as_payload(), &InvocationDetails::default()).unwrap();
        assert_eq!(request.line, "a | b");
        assert!(request.options.pipefail);
        assert_eq!(request.options.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(request.options.scratch, Some(4_096));
        assert_eq!(request.options.place["1"], "n2");
        assert_eq!(request.credit, None);
    }

    #[test]
    fn an_empty_line_is_refused() {
        assert!(
            Request::parse(
                kwargs(vec![("line", " ".into())]).as_payload(),
                &InvocationDetails::default()
            )
            .is_err()
        );
    }

    #[test]
    fn what_the_executor_cannot_do_is_refused_by_its_option() {
        for name in BEYOND_PROCESS {
            let options = Value::Map(vec![(name.into(), "1".into())]);
            let payload = kwargs(vec![("line", "a".into()), ("options", options)]);
            let said = Request::parse(payload.as_payload(), &InvocationDetails::default())
                .unwrap_err()
                .to_string();
            assert!(
                said.starts_with(&format!("--{name} asks for more than the executor process")),
                "{said}"
            );
        }
    }

    #[test]
    fn a_scratch_directory_of_nothing_is_refused() {
        for value in [Value::from(0), Value::from(-1), Value::from("1g")] {
            let options = Value::Map(vec![("scratch".into(), value)]);
            let payload = kwargs(vec![("line", "a".into()), ("options", options)]);
            let refused = Request::parse(payload.as_payload(), &InvocationDetails::default()).unwrap_err();
            assert!(refused.to_string().contains("scratch must be"), "{refused}");
        }
    }

    #[test]
    fn a_file_stays_inside_the_working_directory() {
        for name in ["", "..", "a/b"] {
            let list = Value::Array(vec![Value::Array(vec!["sha256:00".into(), name.into()])]);
            let options = Value::Map(vec![("file".into(), list)]);
            let payload = kwargs(vec![("line", "a".into()), ("options", options)]);
            assert!(
                Request::parse(payload.as_payload(), &InvocationDetails::default()).is_err(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_chunk_may_carry_a_signal_and_credit() {
        let payload = kwargs(vec![("signal", "INT".into()), ("credit", 7.into())]);
        let chunk = Chunk::parse(payload.as_payload(), true).unwrap();
        assert_eq!(chunk.signal, Some(Signal::Group(libc::SIGINT)));
        assert_eq!((chunk.credit, chunk.eof, chunk.stdin), (7, false, None));
    }

    #[test]
    fn what_nobody_reads_is_1_or_2() {
        let closed = |value: Value| {
            let payload = kwargs(vec![("closed", value)]);
            Chunk::parse(payload.as_payload(), true).map(|chunk| chunk.closed)
        };
        assert_eq!(closed(1.into()).unwrap(), Some(Stream::Stdout));
        assert_eq!(closed(2.into()).unwrap(), Some(Stream::Stderr));
        assert_eq!(closed(true.into()).unwrap(), Some(Stream::Stdout));
        assert_eq!(closed(false.into()).unwrap(), None);
        for wrong in [Value::from(0), 3.into(), "stderr".into(), Value::Nil] {
            assert!(closed(wrong).unwrap_err().to_string().contains("1, stdout"));
        }
    }

    #[test]
    fn an_unknown_signal_is_a_usage_error_that_names_the_known_ones() {
        for name in ["FOO", "SIGSIGINT", "int", ""] {
            let payload = kwargs(vec![("line", "a".into()), ("signal", name.into())]);
            let first = Request::parse(payload.as_payload(), &InvocationDetails::default());
            let later = Chunk::parse(payload.as_payload(), true);
            for error in [first.map(drop).unwrap_err(), later.map(drop).unwrap_err()] {
                assert_eq!(error.uri(), "pipes.error.usage");
                assert!(error.to_string().contains("HUP, INT, QUIT"), "{error}");
            }
        }
    }

    #[test]
    fn descriptors_are_three_known_names() {
        let parse = |names: &[&str]| {
            let names = Value::Array(names.iter().map(|name| Value::from(*name)).collect());
            let payload = kwargs(vec![("line", "a".into()), ("descriptors", names)]);
            Request::parse(payload.as_payload(), &InvocationDetails::default())
        };
        let expected = [Descriptor::Folder, Descriptor::Closed, Descriptor::Full];
        let request = parse(&["folder", "closed", "full"]).unwrap();
        assert_eq!(request.descriptors, expected);
        assert!(parse(&["pipe", "pipe"]).is_err());
        assert!(parse(&["pipe", "pipe", "tape"]).is_err());
    }
}
