//! Errors of the procedures, each with the URI under which it travels and whose fault it is.

use pipes_protocol::uris;
use rmpv::Value;

use crate::{blob, service};

/// Why a procedure has no result. The first argument is a sentence for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's: arguments.
    #[error("{0}")]
    Usage(String),
    /// The caller's: no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The caller's: a file that cannot be run.
    #[error("{0}")]
    CannotStart(String),
    /// The caller's: keys that are not for it.
    #[error("{0}")]
    NotAuthorized(String),
    /// The cluster cannot do it now; may be tried again.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// The error's URI.
    pub fn uri(&self) -> &'static str {
        match self {
            Error::Usage(_) => uris::error::USAGE,
            Error::NotFound(_) => uris::error::NOT_FOUND,
            Error::CannotStart(_) => uris::error::CANNOT_START,
            Error::NotAuthorized(_) => pipes_wamp::error::uri::NOT_AUTHORIZED,
            Error::Unavailable(_) => uris::error::UNAVAILABLE,
        }
    }

    /// Its arguments.
    pub fn arguments(&self) -> Vec<Value> {
        vec![Value::from(self.to_string())]
    }
}

impl From<pipes_raft::Error> for Error {
    fn from(error: pipes_raft::Error) -> Error {
        Error::Unavailable(error.to_people())
    }
}

impl From<blob::Error> for Error {
    fn from(error: blob::Error) -> Error {
        Error::Unavailable(error.to_string())
    }
}

impl From<service::Error> for Error {
    fn from(error: service::Error) -> Error {
        match error {
            service::Error::Name(_) => Error::Usage(error.to_string()),
            service::Error::Unknown { .. } => Error::NotFound(error.to_string()),
            _ => Error::Unavailable(error.to_string()),
        }
    }
}
