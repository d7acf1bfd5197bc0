//! What can go wrong, as the user reads it: one sentence each, with what to do.

use pipes_protocol::uris;
use std::path::PathBuf;

use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;

use crate::escape;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// Something on this machine is not as it must be; the user's to mend.
    #[error("{0}")]
    Local(String),
    /// A file cannot be read or written.
    #[error("cannot {doing} {path}: {}", plain(source))]
    File {
        /// read, write, ...
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No agent answered; worth another try once one does.
    #[error("no agent of {context} can be reached: tried {tried}{hint}")]
    Unreachable {
        /// The context's name.
        context: String,
        /// Address and reason of each.
        tried: String,
        /// What to do about it, where that is known.
        hint: String,
    },
    /// An agent answered, and does not know the key; trying again changes nothing.
    #[error(
        "the agent at {agent} refused the key of {context}; choose a context of its cluster with: pipes context use NAME{hint}"
    )]
    KeyRefused {
        /// Its address.
        agent: String,
        /// The context's name.
        context: String,
        /// What else may be wrong.
        hint: &'static str,
    },
    /// The agent went away in the middle.
    #[error("the agent at {agent} was lost: {}", sentence(why))]
    Lost {
        /// Its address.
        agent: String,
        /// What was seen.
        why: String,
    },
    /// The agent says no.
    #[error("{message}")]
    Refused {
        /// The WAMP error's URI.
        uri: String,
        /// Its sentence.
        message: String,
        /// What else it carries.
        arguments: Vec<Value>,
    },
}

impl Error {
    /// An error the agent answered with.
    pub fn refused(uri: &str, payload: &PayloadBuf) -> Error {
        let mut arguments = payload.as_payload().args().unwrap_or_default();
        let said = arguments
            .first()
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty());
        let message = match said {
            // It may quote what a stranger wrote.
            Some(text) => escape::line(text).into_owned(),
            None => escape::line(sentence(uri)).into_owned(),
        };
        if !arguments.is_empty() {
            arguments.remove(0);
        }
        Error::Refused {
            uri: uri.to_owned(),
            message,
            arguments,
        }
    }

    /// A file that cannot be read.
    pub fn read(path: impl Into<PathBuf>, source: std::io::Error) -> Error {
        Error::File {
            doing: "read",
            path: path.into(),
            source,
        }
    }

    /// A file that cannot be written.
    pub fn write(path: impl Into<PathBuf>, source: std::io::Error) -> Error {
        Error::File {
            doing: "write",
            path: path.into(),
            source,
        }
    }

    /// The URI, where it is the agent's answer.
    pub fn uri(&self) -> Option<&str> {
        match self {
            Error::Refused { uri, .. } => Some(uri),
            _ => None,
        }
    }
}

/// As the agent would refuse the line.
impl From<pipes_syntax::Error> for Error {
    fn from(error: pipes_syntax::Error) -> Error {
        Error::Refused {
            uri: uris::error::SYNTAX.to_owned(),
            message: error.message,
            arguments: vec![error.offset.into()],
        }
    }
}

/// An error of the system as a sentence has it: without its number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// What to say for an error that came without a sentence.
fn sentence(uri: &str) -> &str {
    match uri {
        "wamp.error.no_such_procedure" => {
            "the agent does not take this command: it is stopping, or of another version; try again in some seconds"
        }
        "wamp.error.not_authorized" => "this context may not do that",
        "wamp.error.no_available_callee" => {
            "the agent takes no more: it is stopping, or has too many calls waiting; try again in some seconds"
        }
        "wamp.error.canceled" => "the agent gave the call up",
        "wamp.error.network_failure" => "the link to the server that answers was lost",
        "wamp.error.timeout" => "the agent did not answer in time",
        "wamp.close.system_shutdown" => "it stopped",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_sentence_is_the_message() {
        let payload = PayloadBuf::of_values(vec!["no '|' here".into(), 4.into()], None);
        let error = Error::refused(uris::error::SYNTAX, &payload);
        assert_eq!(error.to_string(), "no '|' here");
        let Error::Refused { arguments, .. } = error else {
            panic!("another error")
        };
        assert_eq!(arguments, [Value::from(4)]);
    }

    #[test]
    fn an_answer_without_a_sentence_still_says_what_it_means() {
        let error = Error::refused("wamp.error.not_authorized", &PayloadBuf::default());
        assert_eq!(error.to_string(), "this context may not do that");
    }
}
