//! What a run's call says in each direction, as messages.

use pipes_protocol::descriptor::{self, Descriptors};
use pipes_protocol::uris;
use pipes_wamp::client::Writer;
use pipes_wamp::message::{CallOptions, Message, Payload};
use pipes_wamp::payload::{self, PayloadBuf};
use pipes_wamp::scan::Scan;
use rmpv::Value;

use crate::error::Error;

/// Output the agent may have under way to us; given back by halves.
pub const WINDOW: u64 = 1 << 20;

/// Every chunk says that more may follow: the end of stdin is told by a keyword, so that signals and credit can be sent
/// after it.
const OPTIONS: CallOptions<'static> = CallOptions {
    progress: true,
    receive_progress: true,
    timeout_ms: 0,
    disclose_me: false,
    grant: None,
};

/// What is to be run.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The line.
    pub line: String,
    /// Options by their long names.
    pub options: Vec<(Value, Value)>,
    /// What the stages are to find at 0, 1 and 2.
    pub descriptors: Descriptors,
}

impl Request {
    /// Of a line with these options; its stages find pipes.
    pub fn new(line: String, options: Vec<(Value, Value)>) -> Request {
        Request {
            line,
            options,
            descriptors: Descriptors::default(),
        }
    }
}

/// Queues chunks of the call.
pub struct Outgoing {
    request: u64,
}

impl Outgoing {
    /// Of the call with this id.
    pub fn new(request: u64) -> Outgoing {
        Outgoing { request }
    }

    /// The first chunk.
    pub fn begin(&self, writer: &mut Writer, request: &Request, is_eof: bool) {
        let mut pairs = vec![
            ("line", Value::from(request.line.as_str())),
            ("options", Value::Map(request.options.clone())),
            ("credit", Value::from(WINDOW)),
        ];
        if !descriptor::are_pipes(&request.descriptors) {
            let names = request.descriptors.map(|kind| Value::from(kind.name()));
            pairs.push(("descriptors", Value::Array(names.into())));
        }
        if is_eof {
            pairs.push(("eof", Value::from(true)));
        }
        self.keywords(writer, pairs);
    }

    /// Bytes of stdin.
    pub fn stdin(&self, writer: &mut Writer, bytes: &[u8]) {
        let mut head = Vec::with_capacity(8);
        payload::write_bytes_arg_head(&mut head, bytes.len());
        let message = self.call(Payload { parts: 1, bytes: &[] });
        writer.queue_parts(&message, &[&head, bytes]);
    }

    /// Stdin has ended.
    pub fn eof(&self, writer: &mut Writer) {
        self.keywords(writer, vec![("eof", Value::from(true))]);
    }

    /// The reader of stdout, 1, or of stderr, 2, is gone.
    pub fn closed(&self, writer: &mut Writer, descriptor: libc::c_int) {
        self.keywords(writer, vec![("closed", Value::from(descriptor))]);
    }

    /// More output is welcome.
    pub fn credit(&self, writer: &mut Writer, bytes: u64) {
        self.keywords(writer, vec![("credit", Value::from(bytes))]);
    }

    /// A signal for the stages.
    pub fn signal(&self, writer: &mut Writer, name: &str) {
        self.keywords(writer, vec![("signal", Value::from(name))]);
    }

    fn keywords(&self, writer: &mut Writer, pairs: Vec<(&str, Value)>) {
        let payload = PayloadBuf::of_kwargs(pairs);
        writer.queue(&self.call(payload.as_payload()));
    }

    fn call<'a>(&self, payload: Payload<'a>) -> Message<'a> {
        Message::Call {
            request: self.request,
            options: OPTIONS,
            procedure: uris::RUN_START,
            payload,
        }
    }
}

/// What the agent says.
#[derive(Debug, PartialEq)]
pub enum Incoming<'a> {
    /// The last stage's output.
    Stdout(&'a [u8]),
    /// A stage's standard error.
    Stderr(&'a [u8]),
    /// So many bytes more of stdin are taken.
    Credit(u64),
    /// Bytes in and out of each stage so far.
    Counts(Vec<(u64, u64)>),
    /// It is over.
    Run(Value),
    /// The session is over before the run is.
    Ended(&'a str),
    /// Nothing of interest.
    Nothing,
}

/// Reads a message of the agent; an answer that is an error is one here too.
pub fn parse<'a>(message: &Message<'a>) -> Result<Incoming<'a>, Error> {
    match *message {
        Message::Result {
            progress: true,
            payload,
            ..
        } => {
            // Another tag than the known ones is of a newer version, and nothing to us.
            Ok(progressive(payload).unwrap_or(Incoming::Nothing))
        }
        Message::Result { payload, .. } => {
            let run = payload.args().ok().and_then(|args| args.into_iter().next());
            Ok(Incoming::Run(run.unwrap_or(Value::Nil)))
        }
        Message::Error { error, payload, .. } => Err(Error::refused(error, &payload.into())),
        Message::Goodbye { reason, .. } | Message::Abort { reason, .. } => Ok(Incoming::Ended(reason)),
        _ => Ok(Incoming::Nothing),
    }
}

fn progressive(payload: Payload<'_>) -> Option<Incoming<'_>> {
    let mut scan = Scan::new(payload.bytes);
    if payload.parts == 0 || scan.array().ok()? == 0 {
        return None;
    }
    match scan.unsigned().ok()? {
        0 => {
            let kwargs = payload.kwargs().ok()?;
            let credit = kwargs.iter().find(|(key, _)| key == "credit")?;
            Some(Incoming::Credit(credit.1.as_u64()?))
        }
        1 => Some(Incoming::Stdout(scan.binary().ok()?)),
        2 => Some(Incoming::Stderr(scan.binary().ok()?)),
        3 => {
            let args = payload.args().ok()?;
            let stages = args.get(1)?.as_array()?.iter();
            let pairs = stages.map(|pair| Some((pair[0].as_u64()?, pair[1].as_u64()?)));
            pairs.collect::<Option<_>>().map(Incoming::Counts)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(payload: &PayloadBuf, progress: bool) -> Message<'_> {
        Message::Result {
            request: 1,
            progress,
            payload: payload.as_payload(),
        }
    }

    #[test]
    fn output_errors_counts_and_credit_are_told_apart() {
        let keyword = |name: &str, value: u64| Some(Value::Map(vec![(name.into(), value.into())]));
        let out = PayloadBuf::of_values(vec![1.into(), Value::Binary(b"out".to_vec())], None);
        assert_eq!(parse(&result(&out, true)).unwrap(), Incoming::Stdout(b"out"));
        let err = PayloadBuf::of_values(
            vec![2.into(), Value::Binary(b"err".to_vec())],
            keyword("stage", 2),
        );
        assert_eq!(parse(&result(&err, true)).unwrap(), Incoming::Stderr(b"err"));
        let pair = |bytes_in: u64, bytes_out: u64| Value::Array(vec![bytes_in.into(), bytes_out.into()]);
        let counts = Value::Array(vec![pair(0, 5), pair(5, 7)]);
        let counts = PayloadBuf::of_values(vec![3.into(), counts], None);
        let expected = Incoming::Counts(vec![(0, 5), (5, 7)]);
        assert_eq!(parse(&result(&counts, true)).unwrap(), expected);
        let credit = PayloadBuf::of_values(vec![0.into()], keyword("credit", 77));
        assert_eq!(parse(&result(&credit, true)).unwrap(), Incoming::Credit(77));
    }

    #[test]
    fn what_a_newer_agent_says_is_nothing_to_us() {
        let later = PayloadBuf::of_values(vec![9.into(), "x".into()], None);
        assert_eq!(parse(&result(&later, true)).unwrap(), Incoming::Nothing);
        assert_eq!(
            parse(&result(&PayloadBuf::default(), true)).unwrap(),
            Incoming::Nothing
        );
    }

    #[test]
    fn the_final_answer_is_the_run() {
        let run = PayloadBuf::of_values(vec![Value::Map(vec![])], None);
        assert_eq!(
            parse(&result(&run, false)).unwrap(),
            Incoming::Run(Value::Map(vec![]))
        );
    }
}
