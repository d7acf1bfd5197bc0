//! Errors of the procedures, each with the URI under which it travels and whose fault it is.

use pipes_protocol::uris;
use pipes_raft::Fault;
use rmpv::Value;

use crate::cluster::quorum::{Missing, Quorum};
use crate::workflow::daemon;
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
    /// The caller's: the same name for something else.
    #[error("{0}")]
    Conflict(String),
    /// The caller's: more bytes than are taken.
    #[error("{0}")]
    TooLarge(String),
    /// Nobody's: it has not ended yet.
    #[error("{0}")]
    Unfinished(String),
    /// There is too much of it already; may be tried later.
    #[error("{0}")]
    Full(String),
    /// Why a daemon workflow is not what was asked for.
    #[error(transparent)]
    Workflow(daemon::Error),
    /// The cluster cannot do it now; may be tried again.
    #[error("{0}")]
    Unavailable(String),
    /// The agent takes nothing up any more: another may.
    #[error("the agent is stopping; ask another")]
    Stopping,
    /// The store has found no leader in time; `decided` says who is missing.
    #[error("{}", .0.to_people())]
    Undecided(pipes_raft::Error),
}

impl Error {
    /// The error's URI.
    pub fn uri(&self) -> &'static str {
        match self {
            Error::Usage(_) => uris::error::USAGE,
            Error::NotFound(_) => uris::error::NOT_FOUND,
            Error::CannotStart(_) => uris::error::CANNOT_START,
            Error::Workflow(error) => error.uri(),
            Error::NotAuthorized(_) => pipes_wamp::error::uri::NOT_AUTHORIZED,
            Error::Conflict(_) => uris::error::CONFLICT,
            Error::TooLarge(_) => uris::error::TOO_LARGE,
            Error::Unfinished(_) => uris::error::UNFINISHED,
            Error::Full(_) => uris::error::FULL,
            Error::Stopping => pipes_wamp::error::uri::NO_AVAILABLE_CALLEE,
            Error::Unavailable(_) | Error::Undecided(_) => uris::error::UNAVAILABLE,
        }
    }

    /// Its arguments.
    pub fn arguments(&self) -> Vec<Value> {
        match self {
            Error::Workflow(error) => error.arguments(),
            _ => vec![Value::from(self.to_string())],
        }
    }
}

/// What a procedure answers; an error that says who is missing where nothing can be decided.
pub(super) async fn decided<T>(
    quorum: &Quorum,
    answered: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match quorum.or_missing(answered).await? {
        Err(Error::Undecided(_)) => Err(Error::Unavailable(quorum.undecided())),
        answered => answered,
    }
}

impl From<pipes_raft::Error> for Error {
    fn from(error: pipes_raft::Error) -> Error {
        match (error.fault(), &error) {
            (_, error) if error.is_undecided() => Error::Undecided(error.clone()),
            (_, pipes_raft::Error::LeaseNotFound | pipes_raft::Error::MemberNotFound) => {
                Error::NotFound(error.to_people())
            }
            (Fault::Caller, _) => Error::Usage(error.to_people()),
            (Fault::Cluster | Fault::Node, _) => Error::Unavailable(error.to_people()),
        }
    }
}

impl From<Missing> for Error {
    fn from(missing: Missing) -> Error {
        Error::Unavailable(missing.to_string())
    }
}

impl From<blob::Error> for Error {
    fn from(error: blob::Error) -> Error {
        match error {
            blob::Error::Mismatch { .. } => Error::Usage(error.to_string()),
            blob::Error::Busy { .. } => Error::Full(error.to_string()),
            _ => Error::Unavailable(error.to_string()),
        }
    }
}

impl From<service::Error> for Error {
    fn from(error: service::Error) -> Error {
        match error {
            service::Error::Name(_) => Error::Usage(error.to_string()),
            service::Error::Unknown { .. } => Error::NotFound(error.to_string()),
            service::Error::Used { .. } => Error::Conflict(error.to_string()),
            service::Error::Store(error) => error.into(),
            _ => Error::Unavailable(error.to_string()),
        }
    }
}

impl From<daemon::Error> for Error {
    fn from(error: daemon::Error) -> Error {
        match error {
            daemon::Error::Store(error) => error.into(),
            error => Error::Workflow(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_store_is_told_as_whose_it_is() {
        for (error, uri) in [
            (pipes_raft::Error::KeyNotProvided, uris::error::USAGE),
            (pipes_raft::Error::FutureRevision, uris::error::USAGE),
            (pipes_raft::Error::RequestTooLarge, uris::error::USAGE),
            (pipes_raft::Error::ReadsTooMuch, uris::error::USAGE),
            (pipes_raft::Error::LeaseNotFound, uris::error::NOT_FOUND),
            (pipes_raft::Error::MemberNotFound, uris::error::NOT_FOUND),
            (pipes_raft::Error::NoLeader, uris::error::UNAVAILABLE),
            (pipes_raft::Error::Unknown, uris::error::UNAVAILABLE),
            (pipes_raft::Error::Stopped, uris::error::UNAVAILABLE),
        ] {
            let said = Error::from(service::Error::Store(error.clone()));
            assert_eq!(said.to_string(), error.to_people());
            assert_eq!((Error::from(error).uri(), said.uri()), (uri, uri));
        }
    }
}
