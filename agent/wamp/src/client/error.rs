//! Why a call has no result.

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

fn sentence(payload: &PayloadBuf) -> String {
    let args = payload.as_payload().args().unwrap_or_default();
    args.first()
        .and_then(|value| value.as_str().map(|text| format!(": {text}")))
        .unwrap_or_default()
}
