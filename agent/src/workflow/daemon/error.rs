//! Why a daemon workflow is not what was asked for, as its caller hears it.

use pipes_protocol::uris;
use rmpv::Value;

use crate::blob;
use crate::cluster::quorum::Undecided;
use crate::workflow::placement::StageError;
use crate::workflow::{options, versions};

/// Reasons, each with its error URI.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user's: an option, a name.
    #[error("{0}")]
    Usage(String),
    /// The user's: the line, at a byte offset.
    #[error("{message}")]
    Syntax {
        /// What is wrong and what to do.
        message: String,
        /// Byte of the line it is about.
        offset: usize,
    },
    /// The user's: a name of the line stands for nothing that was built.
    #[error(transparent)]
    Unknown(#[from] versions::Unknown),
    /// The user's: one of that name is there.
    #[error(
        "there is a workflow {0} already; change it with: pipes update {0} \"LINE\", or give this one another --name"
    )]
    Exists(String),
    /// The user's: no workflow of that name.
    #[error("there is no workflow {name}{}; pipes ps -a lists them", .nearest.as_ref().map(|near| format!(" (did you mean {near}?)")).unwrap_or_default())]
    None {
        /// As given.
        name: String,
        /// The known name that is closest.
        nearest: Option<String>,
    },
    /// The user's: it has to be stopped before.
    #[error(
        "workflow {0} runs; stop it first with: pipes stop {0}, or remove it as it is with: pipes rm --force {0}"
    )]
    Runs(String),
    /// The user's: jobs of it have not ended.
    #[error("workflow {0} has unfinished jobs; cancel them and remove it with: pipes rm --force {0}")]
    HasJobs(String),
    /// A stage's executable cannot be started, on any node.
    #[error("{0}")]
    CannotStart(String),
    /// The cluster cannot do it now.
    #[error("{0}")]
    Unavailable(String),
    /// The store did not answer.
    #[error("{}", .0.to_people())]
    Store(#[from] pipes_raft::Error),
}

impl Error {
    /// The error's URI.
    pub fn uri(&self) -> &'static str {
        match self {
            Error::Usage(_) => uris::error::USAGE,
            Error::Syntax { .. } => uris::error::SYNTAX,
            Error::Unknown(_) => uris::error::UNKNOWN_SERVICE,
            Error::Exists(_) | Error::Runs(_) | Error::HasJobs(_) => uris::error::CONFLICT,
            Error::None { .. } => uris::error::NOT_FOUND,
            Error::CannotStart(_) => uris::error::CANNOT_START,
            Error::Unavailable(_) | Error::Store(_) => uris::error::UNAVAILABLE,
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
            Error::None { name, nearest } => {
                arguments.push(name.as_str().into());
                arguments.push(nearest.as_deref().map_or(Value::Nil, Value::from));
            }
            _ => {}
        }
        arguments
    }
}

impl From<options::Error> for Error {
    fn from(options::Error(why): options::Error) -> Error {
        Error::Usage(why)
    }
}

impl From<pipes_syntax::Error> for Error {
    fn from(error: pipes_syntax::Error) -> Error {
        Error::Syntax {
            message: error.message,
            offset: error.offset,
        }
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

impl From<Undecided> for Error {
    fn from(undecided: Undecided) -> Error {
        Error::Unavailable(undecided.to_string())
    }
}

impl From<blob::Error> for Error {
    fn from(error: blob::Error) -> Error {
        Error::Unavailable(error.to_string())
    }
}

/// A stage that an option names: `--replicas 4=2: the line has ...`.
pub fn of_stage(option: &str, error: &StageError) -> Error {
    Error::Usage(format!("--{option} {error}"))
}
