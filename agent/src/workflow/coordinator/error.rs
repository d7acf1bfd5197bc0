//! Why a run does not take place, as its caller hears it.

use pipes_protocol::uris;
use pipes_wamp::error::uri::CANCELED;
use rmpv::Value;

use crate::cluster::quorum::Undecided;
use crate::workflow::options;
use crate::workflow::versions::{self, Unknown};

/// Reasons, each with its error URI.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's fault: an option or a chunk.
    #[error("{0}")]
    Usage(String),
    /// The line is refused, at a byte offset.
    #[error("{message}")]
    Syntax {
        /// What is wrong and what to do.
        message: String,
        /// Byte of the line it is about.
        offset: usize,
    },
    /// A name of the line stands for nothing that was built.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// The cluster cannot run it now.
    #[error("{0}")]
    Unavailable(String),
    /// Too many runs wait; may be tried again in a moment.
    #[error("{0}")]
    Busy(String),
    /// The store did not answer.
    #[error("{}", .0.to_people())]
    Store(#[from] pipes_raft::Error),
    /// The caller's session broke.
    #[error("the caller is gone")]
    Gone,
}

impl From<Undecided> for Error {
    fn from(undecided: Undecided) -> Error {
        Error::Unavailable(undecided.to_string())
    }
}

impl From<versions::Error> for Error {
    fn from(error: versions::Error) -> Error {
        match error {
            versions::Error::Unknown(unknown) => unknown.into(),
            versions::Error::Undecided(undecided) => undecided.into(),
            versions::Error::Store(error) => error.into(),
        }
    }
}

impl From<options::Error> for Error {
    fn from(options::Error(why): options::Error) -> Error {
        Error::Usage(why)
    }
}

impl Error {
    /// The error's URI.
    pub fn uri(&self) -> &'static str {
        match self {
            Error::Usage(_) => uris::error::USAGE,
            Error::Syntax { .. } => uris::error::SYNTAX,
            Error::Unknown(_) => uris::error::UNKNOWN_SERVICE,
            Error::Unavailable(_) | Error::Store(_) => uris::error::UNAVAILABLE,
            Error::Busy(_) => uris::error::BUSY,
            Error::Gone => CANCELED,
        }
    }

    /// Its arguments: the sentence, then what programs want to know.
    pub fn arguments(&self) -> Vec<Value> {
        let mut arguments = vec![Value::from(self.to_string())];
        match self {
            Error::Syntax { offset, .. } => arguments.push((*offset as u64).into()),
            Error::Unknown(unknown) => {
                let (name, nearest) = unknown.names();
                arguments.push(name.into());
                arguments.push(nearest.map_or(Value::Nil, Value::from));
            }
            _ => {}
        }
        arguments
    }
}
