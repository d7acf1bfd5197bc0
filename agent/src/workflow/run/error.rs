//! Why a run does not take place, as its caller hears it.

use rmpv::Value;

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
    /// Nothing of that name was built.
    #[error("unknown service '{name}'{}; build it with: pipes build {name}", did_you_mean(.nearest))]
    UnknownService {
        /// As the line has it.
        name: String,
        /// The known name that is closest.
        nearest: Option<String>,
    },
    /// The cluster cannot run it now.
    #[error("{0}")]
    Unavailable(String),
    /// The store did not answer.
    #[error("{}", .0.to_people())]
    Store(#[from] pipes_raft::Error),
    /// The caller's session broke.
    #[error("the caller is gone")]
    Gone,
}

fn did_you_mean(name: &Option<String>) -> String {
    name.as_ref()
        .map(|name| format!(" (did you mean '{name}'?)"))
        .unwrap_or_default()
}

impl Error {
    /// A session that broke, whatever the reason: there is nobody left to tell.
    pub(super) fn session<E>(_: E) -> Error {
        Error::Gone
    }

    /// The error's URI.
    pub fn uri(&self) -> &'static str {
        match self {
            Error::Usage(_) => "pipes.error.usage",
            Error::Syntax { .. } => "pipes.error.syntax",
            Error::UnknownService { .. } => "pipes.error.unknown_service",
            Error::Unavailable(_) | Error::Store(_) => "pipes.error.unavailable",
            Error::Gone => "wamp.error.canceled",
        }
    }

    /// Its arguments: the sentence, then what programs want to know.
    pub fn arguments(&self) -> Vec<Value> {
        let mut arguments = vec![Value::from(self.to_string())];
        match self {
            Error::Syntax { offset, .. } => arguments.push((*offset as u64).into()),
            Error::UnknownService { name, nearest } => {
                arguments.push(name.as_str().into());
                arguments.push(nearest.as_deref().map_or(Value::Nil, Value::from));
            }
            _ => {}
        }
        arguments
    }
}
