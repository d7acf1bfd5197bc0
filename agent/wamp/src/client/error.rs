//! Why a call has no result.

use crate::error;
use crate::payload::PayloadBuf;

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The callee or the router answered with an error.
    #[error("{uri}{}", sentence(.payload))]
    Answered {
        /// The error's URI.
        uri: String,
        /// Its arguments.
        payload: PayloadBuf,
    },
    /// The session ended first. Whether the callee acted is not known.
    #[error("the session ended")]
    Closed,
}

impl CallError {
    /// Why another agent gave no answer, for people; it is the subject.
    pub fn to_people(&self) -> String {
        match self {
            CallError::Answered { uri, payload } => match payload.as_payload().sentence() {
                said if said.is_empty() => error::to_people(uri).to_owned(),
                said => said,
            },
            CallError::Closed => "the agent that asks it is stopping".to_owned(),
        }
    }
}

fn sentence(payload: &PayloadBuf) -> String {
    let args = payload.as_payload().args().unwrap_or_default();
    args.first()
        .and_then(|value| value.as_str().map(|text| format!(": {text}")))
        .unwrap_or_default()
}
