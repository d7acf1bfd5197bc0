//! Reserving slots: what a coordinator asks of an executor, before a run starts and after it has ended.
//!
//! ```text
//! prepare  {run, coordinator, attempt, stages: [{stage, service, digest, fresh}], files: [digest], hold}
//!   ["waiting"]?  ["reserved"]  -> {replicas: [[stage, replica]], files: [[digest, path]], windows: [[stage, bytes]]}
//!   or pipes.error.full, pipes.error.unavailable [why], pipes.error.cannot_start [stage, why]
//! keep     {run}           -> nothing: the reservation is committed
//! release  {run, attempt}  -> nothing, once its slots are free: it is aborted, or its run is over
//! freed    ["run"]         -> nothing; from the executor to a coordinator that was told full
//! ```
//!
//! Here a reservation is *committed* and *aborted*, as elsewhere; on the wire these were called `keep` and `release`,
//! and to wait for slots `hold`.

use pipes_wamp::message::Payload;
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::uris;

/// Asks for slots: all of them, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// The run they are for.
    pub run: String,
    /// The node that coordinates it.
    pub coordinator: u64,
    /// Which of the run's attempts asks, from 1: what is said of it may come after the next has asked.
    pub attempt: u64,
    /// Its stages on this node.
    pub stages: Vec<Wanted>,
    /// Digests of files that its stages are given.
    #[serde(default)]
    pub files: Vec<String>,
    /// Rather wait in order than be told full.
    #[serde(default, rename = "hold")]
    pub wait: bool,
}

/// One stage that wants a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its number in the line, from 1.
    pub stage: u32,
    /// The service's name.
    pub service: String,
    /// The version: `sha256:HEX`.
    pub digest: String,
    /// A replica of its own, that serves nobody before or after.
    #[serde(default)]
    pub fresh: bool,
}

/// How far a prepare has come, before its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It waits in order.
    Waiting,
    /// The slots are its own; replicas may still have to start.
    Reserved,
}

impl Progress {
    /// As it travels.
    pub fn encode(self) -> PayloadBuf {
        let word = match self {
            Progress::Waiting => "waiting",
            Progress::Reserved => "reserved",
        };
        PayloadBuf::of_values(vec![word.into()], None)
    }
}

/// The answer to a prepare: replicas that can be called, and what their stages are given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reserved {
    /// The replica of each stage.
    pub replicas: Vec<(u32, String)>,
    /// Where the node keeps each file, by its digest.
    pub files: Vec<(String, String)>,
    /// How far the window of each stage's input may grow, in bytes.
    pub windows: Vec<(u32, u64)>,
}

/// Commits a reservation: its run has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The run.
    pub run: String,
}

/// Aborts a reservation, or frees the slots of a run that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// The run.
    pub run: String,
    /// All its attempts up to this one.
    #[serde(default)]
    pub attempt: u64,
}

/// Slots may be free for a run that was told full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freed {
    /// The run.
    pub run: String,
}

impl Freed {
    /// The call's arguments.
    pub fn args(self) -> Vec<Value> {
        vec![self.run.into()]
    }

    /// Reads the call.
    pub fn parse(payload: Payload<'_>) -> Option<Freed> {
        let run = payload.args().ok()?.first()?.as_str()?.to_owned();
        Some(Freed { run })
    }
}

/// Why slots were not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// No slot is free; whoever asked is told when one may be.
    #[error("no slot is free")]
    Full,
    /// The executable's own fault: it fails everywhere.
    #[error("stage {stage} cannot be started: {why}")]
    CannotStart {
        /// Its number in the line, from 1.
        stage: u32,
        /// The system's reason.
        why: String,
    },
    /// This node's; another may do it.
    #[error("{0}")]
    Unavailable(String),
}

impl PrepareError {
    /// Its URI.
    pub fn uri(&self) -> &'static str {
        match self {
            PrepareError::Full => uris::error::FULL,
            PrepareError::CannotStart { .. } => uris::error::CANNOT_START,
            PrepareError::Unavailable(_) => uris::error::UNAVAILABLE,
        }
    }

    /// Its arguments.
    pub fn encode(&self) -> PayloadBuf {
        let args = match self {
            PrepareError::CannotStart { stage, why } => vec![(*stage).into(), why.as_str().into()],
            PrepareError::Full | PrepareError::Unavailable(_) => vec![self.to_string().into()],
        };
        PayloadBuf::of_values(args, None)
    }

    /// Reads an error. One that is not known is the node's, so that another is asked.
    pub fn parse(error: &str, payload: Payload<'_>) -> PrepareError {
        let why = payload.sentence();
        match error {
            uris::error::FULL => PrepareError::Full,
            uris::error::CANNOT_START => {
                let args = payload.args().unwrap_or_default();
                let stage = args.first().and_then(Value::as_u64).unwrap_or(1);
                PrepareError::CannotStart {
                    stage: stage.try_into().unwrap_or(1),
                    why,
                }
            }
            _ if why.is_empty() => PrepareError::Unavailable(error.to_owned()),
            _ => PrepareError::Unavailable(why),
        }
    }
}

/// Any of the structs above as the only argument of a call or an answer.
pub fn encode<T: Serialize>(message: &T) -> PayloadBuf {
    // Names, numbers and paths: always encodable.
    PayloadBuf::of(message).unwrap_or_default()
}

/// Reads any of the structs above.
pub fn parse<T: DeserializeOwned>(payload: Payload<'_>) -> Result<T, pipes_wamp::Error> {
    payload.first_as()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: Vec<(&str, Value)>) -> Value {
        Value::Map(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }

    #[test]
    fn a_prepare_has_its_names_on_the_wire() {
        let prepare = Prepare {
            run: "r1".into(),
            coordinator: 3,
            attempt: 1,
            stages: vec![Wanted {
                stage: 2,
                service: "cat".into(),
                digest: "sha256:00".into(),
                fresh: false,
            }],
            files: vec!["sha256:11".into()],
            wait: true,
        };
        let stage = map(vec![
            ("stage", 2.into()),
            ("service", "cat".into()),
            ("digest", "sha256:00".into()),
            ("fresh", false.into()),
        ]);
        let written = map(vec![
            ("run", "r1".into()),
            ("coordinator", 3.into()),
            ("attempt", 1.into()),
            ("stages", Value::Array(vec![stage])),
            ("files", Value::Array(vec!["sha256:11".into()])),
            ("hold", true.into()),
        ]);
        let payload = encode(&prepare);
        assert_eq!(payload, PayloadBuf::of_values(vec![written], None));
        assert_eq!(parse::<Prepare>(payload.as_payload()).unwrap(), prepare);
    }

    #[test]
    fn what_an_answer_does_not_say_is_nothing_and_what_is_not_known_is_ignored() {
        let answer = map(vec![
            (
                "replicas",
                Value::Array(vec![Value::Array(vec![1.into(), "a1".into()])]),
            ),
            ("later", 1.into()),
        ]);
        let payload = PayloadBuf::of_values(vec![answer, "later".into()], None);
        let reserved = parse::<Reserved>(payload.as_payload()).unwrap();
        assert_eq!(reserved.replicas, vec![(1, "a1".to_owned())]);
        assert!(reserved.files.is_empty() && reserved.windows.is_empty());
    }

    #[test]
    fn an_error_is_read_as_it_was_said() {
        for error in [
            PrepareError::Full,
            PrepareError::CannotStart {
                stage: 2,
                why: "no such file".into(),
            },
            PrepareError::Unavailable("its disk is full".into()),
        ] {
            let payload = error.encode();
            assert_eq!(PrepareError::parse(error.uri(), payload.as_payload()), error);
        }
        let unknown = PrepareError::parse("wamp.error.canceled", Payload::EMPTY);
        assert_eq!(unknown, PrepareError::Unavailable("wamp.error.canceled".into()));
    }
}
