//! The stage call: what a coordinator orders, and what the shim reports.
//!
//! ```text
//! coordinator  {run, stage, args, env, files, next, attempt, window?, scratch?}   ["go"]   ["signal", 2]   ["abandon", false]   ["kill"]
//!              ["credit", n]   ["close", 2]   ["end"]
//! shim         ["laying"]   ["ready"]   ["started", ms]   ["stderr", b"..."]   ["counts", in, out]   ["exited", 137, 9, ms]   ["closed", out]
//!              -> {bytes_in, bytes_out}   or pipes.error.cannot_start, broken, over_limit, busy [why]
//! ```
//!
//! *Laying*: files are on their way to its folder, and came further. *Exited*: the process is gone and its status known. *Closed*: its stdout ended, which descendants may put off.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pipes_wamp::message::Payload;
use pipes_wamp::payload::PayloadBuf;
use pipes_wamp::write;
use rmpv::Value;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::descriptor::{self, Descriptors};

/// Bytes of stderr that a shim may send before it was given credit for any.
pub const STDERR_WINDOW: u64 = 64 << 10;

/// The longest name of a procedure that is called: it must leave room in a chunk's head.
const PROCEDURE_MAX: usize = 255;

/// The last number of a signal.
pub const SIGNAL_MAX: i32 = 64;

/// The first chunk: one stage of a run, as it is to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The run's id.
    pub run: String,
    /// The stage's number, from 1.
    pub stage: u32,
    /// Arguments after the service's name.
    #[serde(default)]
    pub args: Vec<ByteBuf>,
    /// Environment beyond what every stage has: names and values.
    #[serde(default)]
    pub env: Vec<(ByteBuf, ByteBuf)>,
    /// Files to lay into the working folder, which the shim asks its agent for.
    #[serde(default)]
    pub files: Vec<File>,
    /// The procedure that takes this stage's output.
    pub next: String,
    /// Which try of the run this is, from 1, as the stage's own environment tells it.
    #[serde(default = "first")]
    pub attempt: u64,
    /// Bytes that the window of its input may grow to, where the agent has less to give than each replica was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// What it has at 0, 1 and 2.
    #[serde(default, skip_serializing_if = "descriptor::are_pipes")]
    pub descriptors: Descriptors,
    /// Bytes that its working folder may hold, beside its files; without, what leaves a part of the disk free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<u64>,
}

/// One file of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// `sha256:` and 64 digits.
    pub digest: String,
    /// What it is called in the working folder: one word without a slash.
    pub name: String,
    /// It may be executed, as it might where it came from.
    #[serde(default)]
    pub executable: bool,
}

/// The longest name that Linux gives a file, in bytes.
const NAME_MAX: usize = 255;

/// Why no file of a run can be called so, if none can.
pub fn unfit_name(name: &str) -> Option<String> {
    if name.len() > NAME_MAX {
        let begin: String = name.chars().take(20).collect();
        return Some(format!(
            "a file's name in a stage has at most {NAME_MAX} bytes: '{begin}...' has {}; give another with PATH=NAME",
            name.len()
        ));
    }
    let is_plain = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
    (!is_plain).then(|| format!("'{name}' cannot be a file's name in a stage"))
}

fn first() -> u64 {
    1
}

impl Spec {
    /// As it travels.
    pub fn encode(&self) -> PayloadBuf {
        // Texts, bytes and numbers: always encodable.
        PayloadBuf::of(self).unwrap_or_default()
    }

    /// Reads the first chunk; the error says what is wrong with it.
    pub fn parse(payload: Payload<'_>) -> Result<Spec, String> {
        let spec: Spec = payload
            .first_as()
            .map_err(|error| format!("a stage call begins with what is to be started: {error}"))?;
        if spec.run.is_empty() || spec.stage == 0 || spec.next.is_empty() {
            return Err("a stage call needs run, stage and next".into());
        }
        if spec.next.len() > PROCEDURE_MAX {
            return Err("the next procedure's name is too long".into());
        }
        Ok(spec)
    }
}

/// A later chunk: what the coordinator orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Start the executable.
    Start,
    /// Send a signal to the stage's process group.
    Signal(i32),
    /// Pipes is about to end the whole run. What each stage's output ends with from now on is no end of input for the next
    /// stage; it is one for the caller, after the last (`gives_end`).
    Abandon {
        /// The end of its output is passed on all the same.
        gives_end: bool,
    },
    /// Kill all of the stage's processes.
    Kill,
    /// So many bytes more of stderr.
    Credit(u64),
    /// Nobody reads stderr any more: the next write to it gets SIGPIPE.
    CloseStderr,
    /// The run is over: kill what is left, clean up, answer.
    End,
}

impl Order {
    /// As it travels.
    pub fn encode(self) -> PayloadBuf {
        let args = match self {
            Order::Start => vec!["go".into()],
            Order::Signal(number) => vec!["signal".into(), number.into()],
            Order::Abandon { gives_end } => vec!["abandon".into(), gives_end.into()],
            Order::Kill => vec!["kill".into()],
            Order::Credit(count) => vec!["credit".into(), count.into()],
            Order::CloseStderr => vec!["close".into(), 2.into()],
            Order::End => vec!["end".into()],
        };
        PayloadBuf::of_values(args, None)
    }

    /// Reads a later chunk; `None` for what this version does not know.
    pub fn parse(payload: Payload<'_>) -> Option<Order> {
        let args = payload.args().ok()?;
        Some(match args.first()?.as_str()? {
            "go" => Order::Start,
            "signal" => {
                let number = i32::try_from(args.get(1)?.as_u64()?).ok()?;
                Order::Signal(Some(number).filter(|number| (1..=SIGNAL_MAX).contains(number))?)
            }
            "abandon" => Order::Abandon {
                gives_end: args.get(1)?.as_bool()?,
            },
            "kill" => Order::Kill,
            "credit" => Order::Credit(args.get(1)?.as_u64()?),
            "close" if args.get(1)?.as_u64()? == 2 => Order::CloseStderr,
            "end" => Order::End,
            _ => return None,
        })
    }
}

/// A part of the answer: what the shim reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Files come that the run has, and the stage is not ready until all are there.
    Laying,
    /// The hop to the next stage is proved.
    Ready,
    /// The process began.
    Started(SystemTime),
    /// Bytes of its standard error.
    Stderr(Vec<u8>),
    /// Bytes in and out so far.
    Counts(u64, u64),
    /// The process ended.
    Exited(Exit),
    /// Its stdout ended, after so many bytes.
    Closed(u64),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// As a shell gives it.
    pub status: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// When.
    pub at: SystemTime,
}

impl Report {
    /// As it travels. What comes from a pipe is not put into a report first: [`stderr_head`].
    pub fn encode(&self) -> PayloadBuf {
        let args = match self {
            Report::Laying => vec!["laying".into()],
            Report::Ready => vec!["ready".into()],
            Report::Started(at) => vec!["started".into(), milliseconds(*at).into()],
            Report::Stderr(bytes) => vec!["stderr".into(), Value::Binary(bytes.clone())],
            Report::Counts(bytes_in, bytes_out) => {
                vec!["counts".into(), (*bytes_in).into(), (*bytes_out).into()]
            }
            Report::Exited(exit) => vec![
                "exited".into(),
                exit.status.into(),
                exit.signal.map_or(Value::Nil, Value::from),
                milliseconds(exit.at).into(),
            ],
            Report::Closed(bytes) => vec!["closed".into(), (*bytes).into()],
        };
        PayloadBuf::of_values(args, None)
    }

    /// Reads a part of the answer; `None` for what this version does not know.
    pub fn parse(payload: Payload<'_>) -> Option<Report> {
        let mut args = payload.args().ok()?.into_iter();
        let name = args.next()?;
        Some(match name.as_str()? {
            "laying" => Report::Laying,
            "ready" => Report::Ready,
            "started" => Report::Started(time(args.next()?.as_u64()?)),
            "stderr" => match args.next()? {
                Value::Binary(bytes) => Report::Stderr(bytes),
                _ => return None,
            },
            "counts" => Report::Counts(args.next()?.as_u64()?, args.next()?.as_u64()?),
            "exited" => Report::Exited(Exit {
                status: args.next()?.as_i64()?.try_into().ok()?,
                signal: args.next()?.as_i64().and_then(|number| number.try_into().ok()),
                at: time(args.next()?.as_u64()?),
            }),
            "closed" => Report::Closed(args.next()?.as_u64()?),
            _ => return None,
        })
    }
}

/// What stands before `count` bytes of stderr in the report that carries them.
pub fn stderr_head(out: &mut Vec<u8>, count: usize) {
    write::array(out, 2);
    write::text(out, "stderr");
    write::binary_head(out, count);
}

/// The final answer: how much went through in all, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Into its stdin; `None` if it was not said.
    pub bytes_in: Option<u64>,
    /// Out of its stdout; `None` if it was not said.
    pub bytes_out: Option<u64>,
}

impl Totals {
    /// As they travel.
    pub fn encode(&self) -> PayloadBuf {
        // Two numbers: always encodable.
        PayloadBuf::of(self).unwrap_or_default()
    }

    /// Reads the final answer; nothing is known of one that cannot be read.
    pub fn parse(payload: Payload<'_>) -> Totals {
        payload.first_as().unwrap_or_default()
    }
}

/// Milliseconds since 1970, as times travel.
fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(args: Vec<Value>) -> Option<Order> {
        Order::parse(PayloadBuf::of_values(args, None).as_payload())
    }

    #[test]
    fn commands_are_known_and_others_are_not() {
        assert_eq!(order(vec!["go".into()]), Some(Order::Start));
        assert_eq!(order(vec!["signal".into(), 15.into()]), Some(Order::Signal(15)));
        assert_eq!(order(vec!["signal".into(), 0.into()]), None);
        assert_eq!(order(vec!["signal".into(), 65.into()]), None);
        assert_eq!(order(vec!["credit".into(), 7.into()]), Some(Order::Credit(7)));
        assert_eq!(order(vec!["later".into()]), None);
        assert_eq!(order(vec![]), None);
        for known in [
            Order::Start,
            Order::Signal(2),
            Order::Abandon { gives_end: true },
            Order::Kill,
            Order::Credit(1 << 20),
            Order::CloseStderr,
            Order::End,
        ] {
            assert_eq!(Order::parse(known.encode().as_payload()), Some(known));
        }
    }

    #[test]
    fn an_order_without_a_run_is_refused() {
        let map = Value::Map(vec![("stage".into(), 1.into()), ("next".into(), "a.b".into())]);
        let payload = PayloadBuf::of_values(vec![map], None);
        assert!(Spec::parse(payload.as_payload()).unwrap_err().contains("run"));
    }

    #[test]
    fn a_stage_has_its_names_on_the_wire() {
        let bytes = |text: &str| ByteBuf::from(text.as_bytes().to_vec());
        let mut spec = Spec {
            run: "r1".into(),
            stage: 2,
            args: vec![bytes("-n")],
            env: vec![(bytes("A"), bytes("b"))],
            files: vec![File {
                digest: "sha256:00".into(),
                name: "words".into(),
                executable: true,
            }],
            next: "a.b".into(),
            attempt: 1,
            descriptors: Descriptors::default(),
            window: None,
            scratch: None,
        };
        let binary = |text: &str| Value::Binary(text.as_bytes().to_vec());
        let pair = |first: Value, second: Value| Value::Array(vec![Value::Array(vec![first, second])]);
        let file = Value::Map(vec![
            ("digest".into(), "sha256:00".into()),
            ("name".into(), "words".into()),
            ("executable".into(), true.into()),
        ]);
        let mut pairs = vec![
            ("run".into(), "r1".into()),
            ("stage".into(), 2.into()),
            ("args".into(), Value::Array(vec![binary("-n")])),
            ("env".into(), pair(binary("A"), binary("b"))),
            ("files".into(), Value::Array(vec![file])),
            ("next".into(), "a.b".into()),
            ("attempt".into(), 1.into()),
        ];
        let written =
            |pairs: &[(Value, Value)]| PayloadBuf::of_values(vec![Value::Map(pairs.to_vec())], None);
        assert_eq!(spec.encode(), written(&pairs));
        (spec.window, spec.scratch) = (Some(65_536), Some(1 << 20));
        pairs.extend([
            ("window".into(), 65_536.into()),
            ("scratch".into(), (1 << 20).into()),
        ]);
        assert_eq!(spec.encode(), written(&pairs));
        assert_eq!(Spec::parse(spec.encode().as_payload()), Ok(spec));
    }

    #[test]
    fn an_exit_by_a_signal_keeps_both_numbers() {
        let payload = PayloadBuf::of_values(vec!["exited".into(), 137.into(), 9.into(), 1000.into()], None);
        let at = UNIX_EPOCH + Duration::from_secs(1);
        let expected = Report::Exited(Exit {
            status: 137,
            signal: Some(9),
            at,
        });
        assert_eq!(expected.encode(), payload);
        assert_eq!(Report::parse(payload.as_payload()), Some(expected));
    }

    #[test]
    fn counts_are_bytes_in_and_bytes_out() {
        let payload = PayloadBuf::of_values(vec!["counts".into(), 3.into(), 5.into()], None);
        assert_eq!(Report::parse(payload.as_payload()), Some(Report::Counts(3, 5)));
        assert_eq!(Report::Counts(3, 5).encode(), payload);
    }

    #[test]
    fn what_is_not_known_is_no_event() {
        let payload = PayloadBuf::of_values(vec!["later".into()], None);
        assert_eq!(Report::parse(payload.as_payload()), None);
    }

    #[test]
    fn totals_are_named_and_may_be_missing() {
        let pairs = vec![("bytes_in".into(), 3.into()), ("bytes_out".into(), 5.into())];
        let payload = PayloadBuf::of_values(vec![Value::Map(pairs)], None);
        let totals = Totals {
            bytes_in: Some(3),
            bytes_out: Some(5),
        };
        assert_eq!(totals.encode(), payload);
        assert_eq!(Totals::parse(payload.as_payload()), totals);
        assert_eq!(Totals::parse(Payload::EMPTY), Totals::default());
    }
}
