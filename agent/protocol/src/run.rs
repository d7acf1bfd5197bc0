//! The answer to `pipes.run.start` while the run is on: what a coordinator passes to its caller.
//!
//! ```text
//! [4, "r01.."]   [0] {credit: n}   [1, b"stdout"]   [2, b"stderr"] {stage: 2}   [3, [[in, out], ...]]   -> the run
//! ```

use pipes_wamp::message::Payload;
use pipes_wamp::payload::{self, PayloadBuf};
use pipes_wamp::scan::Scan;
use rmpv::Value;

/// Bytes more of stdin that are taken.
const CREDIT: u8 = 0;
/// Bytes of the last stage's output. Public for the router, which splices them past the coordinator.
pub const STDOUT: u8 = 1;
/// Bytes of a stage's standard error.
const STDERR: u8 = 2;
/// How many bytes went through each stage so far.
const COUNTS: u8 = 3;
/// The run's ID, for callers that asked for it.
const BEGUN: u8 = 4;

/// A part of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// So many bytes more of stdin are taken.
    Credit(u64),
    /// The last stage's output.
    Stdout(&'a [u8]),
    /// A stage's standard error.
    Stderr {
        /// Its number in the line, from 1; 0 if it was not said.
        stage: u32,
        /// What it wrote.
        bytes: &'a [u8],
    },
    /// Bytes in and out of each stage so far.
    Counts(Vec<(u64, u64)>),
    /// The run was accepted under this ID.
    Begun(&'a str),
}

impl<'a> Part<'a> {
    /// As it travels.
    pub fn encode(&self) -> PayloadBuf {
        let keyword = |name: &str, value: Value| Some(Value::Map(vec![(name.into(), value)]));
        match self {
            Part::Credit(bytes) => {
                PayloadBuf::of_values(vec![CREDIT.into()], keyword("credit", (*bytes).into()))
            }
            Part::Stdout(data) => {
                let mut bytes = Vec::with_capacity(data.len() + 8);
                payload::write_tagged_bytes(&mut bytes, STDOUT, data);
                PayloadBuf { parts: 1, bytes }
            }
            Part::Stderr { stage, bytes } => PayloadBuf::of_values(
                vec![STDERR.into(), Value::Binary(bytes.to_vec())],
                keyword("stage", (*stage).into()),
            ),
            Part::Counts(stages) => {
                let pairs = stages
                    .iter()
                    .map(|(bytes_in, bytes_out)| Value::Array(vec![(*bytes_in).into(), (*bytes_out).into()]));
                PayloadBuf::of_values(vec![COUNTS.into(), Value::Array(pairs.collect())], None)
            }
            Part::Begun(run) => PayloadBuf::of_values(vec![BEGUN.into(), (*run).into()], None),
        }
    }

    /// Reads a part; `None` for what this version does not know.
    pub fn parse(payload: Payload<'a>) -> Option<Part<'a>> {
        let mut scan = Scan::new(payload.bytes);
        if payload.parts == 0 || scan.array().ok()? == 0 {
            return None;
        }
        let keyword = |name: &str| {
            let kwargs = payload.kwargs().ok()?;
            kwargs.iter().find(|(key, _)| key == name)?.1.as_u64()
        };
        match u8::try_from(scan.unsigned().ok()?).ok()? {
            CREDIT => Some(Part::Credit(keyword("credit")?)),
            STDOUT => Some(Part::Stdout(scan.binary().ok()?)),
            STDERR => Some(Part::Stderr {
                stage: keyword("stage")
                    .and_then(|stage| stage.try_into().ok())
                    .unwrap_or(0),
                bytes: scan.binary().ok()?,
            }),
            COUNTS => {
                let args = payload.args().ok()?;
                let stages = args.get(1)?.as_array()?.iter();
                let pairs = stages.map(|pair| {
                    let pair = pair.as_array()?;
                    Some((pair.first()?.as_u64()?, pair.get(1)?.as_u64()?))
                });
                pairs.collect::<Option<_>>().map(Part::Counts)
            }
            BEGUN => Some(Part::Begun(scan.text().ok()?)),
            _ => None,
        }
    }
}

/// What Pipes failed, where a run ended for that and not for what its stages did: a keyword of its answer, beside the
/// run, for those who may run it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing had started.
    BeforeStart,
    /// A server was lost while it ran a stage.
    Server,
    /// Something else broke after the start.
    Other,
}

/// The keyword.
const LOSS: &str = "loss";

impl Loss {
    const NAMES: [(Loss, &'static str); 3] = [
        (Loss::BeforeStart, "before_start"),
        (Loss::Server, "server"),
        (Loss::Other, "other"),
    ];

    /// Adds it to an answer that has one argument and no keywords yet.
    pub fn add_to(self, answer: &mut PayloadBuf) {
        let name = Loss::NAMES.iter().find(|(loss, _)| *loss == self);
        let name = name.map_or("other", |(_, name)| *name);
        let args = answer.as_payload().args().unwrap_or_default();
        *answer = PayloadBuf::of_values(args, Some(Value::Map(vec![(LOSS.into(), name.into())])));
    }

    /// Reads it from an answer.
    pub fn of(answer: Payload<'_>) -> Option<Loss> {
        let kwargs = answer.kwargs().ok()?;
        let (_, name) = kwargs.iter().find(|(key, _)| key == LOSS)?;
        let known = Loss::NAMES.iter().find(|(_, known)| name.as_str() == Some(known));
        Some(known.map_or(Loss::Other, |(loss, _)| *loss))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_errors_counts_and_credit_are_told_apart() {
        let keyword = |name: &str, value: u64| Some(Value::Map(vec![(name.into(), value.into())]));
        let pair = |bytes_in: u64, bytes_out: u64| Value::Array(vec![bytes_in.into(), bytes_out.into()]);
        let counts = Value::Array(vec![pair(0, 5), pair(5, 7)]);
        let binary = |bytes: &[u8]| Value::Binary(bytes.to_vec());
        for (part, args, kwargs) in [
            (Part::Stdout(b"out"), vec![1.into(), binary(b"out")], None),
            (
                Part::Stderr {
                    stage: 2,
                    bytes: b"err",
                },
                vec![2.into(), binary(b"err")],
                keyword("stage", 2),
            ),
            (Part::Counts(vec![(0, 5), (5, 7)]), vec![3.into(), counts], None),
            (Part::Credit(77), vec![0.into()], keyword("credit", 77)),
            (Part::Begun("r1"), vec![4.into(), "r1".into()], None),
        ] {
            let payload = PayloadBuf::of_values(args, kwargs);
            assert_eq!(part.encode(), payload);
            assert_eq!(Part::parse(payload.as_payload()), Some(part));
        }
    }

    #[test]
    fn a_loss_stands_beside_the_run_and_is_read_back() {
        for loss in [Loss::BeforeStart, Loss::Server, Loss::Other] {
            let mut answer = PayloadBuf::of_values(vec!["the run".into()], None);
            assert_eq!(Loss::of(answer.as_payload()), None);
            loss.add_to(&mut answer);
            assert_eq!(Loss::of(answer.as_payload()), Some(loss));
            assert_eq!(answer.as_payload().args().unwrap(), ["the run".into()]);
        }
    }

    #[test]
    fn what_a_newer_agent_says_is_nothing_to_us() {
        let later = PayloadBuf::of_values(vec![9.into(), "x".into()], None);
        assert_eq!(Part::parse(later.as_payload()), None);
        assert_eq!(Part::parse(Payload::EMPTY), None);
    }
}
