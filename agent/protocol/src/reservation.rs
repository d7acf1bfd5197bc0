//! Reserving slots: one call, open as long as a run has stages on a node. Its end is the end of the reservation.
//!
//! ```text
//! coordinator  {stages: [{stage, kind: {service, digest}, fresh}], files: [digest], hold}     executor.prepare
//! executor     ["waiting"]?   ["reserved"]   ["ready", {replicas: [[stage, replica]], windows: [[stage, bytes]]}], its files being there
//! either       the last chunk, CANCEL; a lost session, link or agent      the slots are free
//! executor     or pipes.error.full, pipes.error.unavailable [why], pipes.error.cannot_start [stage, why]
//! ```
//!
//! Always: there is no other message that frees a slot, so none can be lost. To wait for slots is called `hold` on the
//! wire.

use crate::supply::Kind;
use pipes_wamp::message::Payload;
use pipes_wamp::payload::PayloadBuf;
use pipes_wamp::uris;
use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Asks for slots: all of them, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// The run's stages on this node.
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
    /// What must serve it.
    pub kind: Kind,
    /// A replica of its own, that serves nobody before or after.
    #[serde(default)]
    pub fresh: bool,
}

/// How far a prepare has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It waits in order.
    Waiting,
    /// The slots are its own; replicas may still have to start.
    Reserved,
    /// All replicas can be called. Nothing follows but an error.
    Ready(Reserved),
}

impl Progress {
    /// As it travels.
    pub fn encode(&self) -> PayloadBuf {
        let word = match self {
            Progress::Waiting => "waiting",
            Progress::Reserved => "reserved",
            // Names, numbers and paths: always encodable.
            Progress::Ready(reserved) => {
                return PayloadBuf::of_args(&("ready", reserved)).unwrap_or_default();
            }
        };
        PayloadBuf::of_values(vec![word.into()], None)
    }

    /// Reads one; `None` where it is none that is known.
    pub fn parse(payload: Payload<'_>) -> Option<Progress> {
        match payload.args().ok()?.first()?.as_str()? {
            "waiting" => Some(Progress::Waiting),
            "reserved" => Some(Progress::Reserved),
            "ready" => Some(Progress::Ready(payload.args_as::<(String, Reserved)>().ok()?.1)),
            _ => None,
        }
    }
}

/// Replicas that can be called, and what their stages are given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reserved {
    /// The replica of each stage.
    pub replicas: Vec<(u32, String)>,
    /// How far the window of each stage's input may grow, in bytes.
    pub windows: Vec<(u32, u64)>,
}

/// Why slots were not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// No slot is free; what the node tells of its supply says when one is.
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
            stages: vec![Wanted {
                stage: 2,
                kind: Kind {
                    service: "cat".into(),
                    digest: "sha256:00".into(),
                },
                fresh: false,
            }],
            files: vec!["sha256:11".into()],
            wait: true,
        };
        let kind = map(vec![("service", "cat".into()), ("digest", "sha256:00".into())]);
        let stage = map(vec![("stage", 2.into()), ("kind", kind), ("fresh", false.into())]);
        let written = map(vec![
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
        let payload = PayloadBuf::of_values(vec!["ready".into(), answer], None);
        let Some(Progress::Ready(reserved)) = Progress::parse(payload.as_payload()) else {
            panic!("it is ready");
        };
        assert_eq!(reserved.replicas, vec![(1, "a1".to_owned())]);
        assert!(reserved.windows.is_empty());
        let later = PayloadBuf::of_values(vec!["later".into()], None);
        assert_eq!(Progress::parse(later.as_payload()), None);
    }

    #[test]
    fn each_word_is_read_as_it_was_said() {
        let ready = Reserved {
            replicas: vec![(2, "b1".into())],
            windows: vec![(2, 9)],
        };
        for said in [Progress::Waiting, Progress::Reserved, Progress::Ready(ready)] {
            assert_eq!(Progress::parse(said.encode().as_payload()), Some(said));
        }
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
