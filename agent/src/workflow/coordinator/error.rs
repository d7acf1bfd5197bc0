//! Why a run does not take place, as its caller hears it.

use pipes_protocol::uris;
use pipes_wamp::error::uri::CANCELED;
use rmpv::Value;

use crate::cluster::quorum::Undecided;
use crate::service;

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
    #[error("unknown service '{name}'{}; {}", did_you_mean(.nearest), how_to_build(.name))]
    UnknownService {
        /// As the line has it.
        name: String,
        /// The known name that is closest.
        nearest: Option<String>,
    },
    /// The service was built, but not as that version.
    #[error("no one version of service '{name}' begins with {digits}; it has {}", several(.versions))]
    UnknownVersion {
        /// The service.
        name: String,
        /// What was given of the digest.
        digits: String,
        /// Digests of those there are, the newest first.
        versions: Vec<String>,
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

impl From<Undecided> for Error {
    fn from(undecided: Undecided) -> Error {
        Error::Unavailable(undecided.to_string())
    }
}

fn did_you_mean(name: &Option<String>) -> String {
    name.as_ref()
        .map(|name| format!(" (did you mean '{name}'?)"))
        .unwrap_or_default()
}

/// The command that makes the service, and how to call it where that is not as the line does.
fn how_to_build(name: &str) -> String {
    let (name, _) = service::split(name);
    let shown = pipes_syntax::quote(name);
    let file = name.rsplit('/').next().unwrap_or(name);
    if service::check_name(name).is_ok() {
        format!("build it with: pipes build {shown}")
    } else if service::check_name(file).is_ok() {
        format!("build it with: pipes build {shown}, and call it {file}")
    } else {
        format!("build it with: pipes build --name NAME {shown}, and call it NAME")
    }
}

/// As many digests as a sentence takes, shortened.
fn several(digests: &[String]) -> String {
    const SHOWN_MAX: usize = 5;
    const DIGITS: usize = 12;
    let digits = |digest: &String| digest.chars().take(DIGITS).collect::<String>();
    let mut shown: Vec<String> = digests.iter().take(SHOWN_MAX).map(digits).collect();
    if digests.len() > SHOWN_MAX {
        shown.push(format!("{} older ones", digests.len() - SHOWN_MAX));
    }
    shown.join(", ")
}

impl Error {
    /// The error's URI.
    pub fn uri(&self) -> &'static str {
        match self {
            Error::Usage(_) => uris::error::USAGE,
            Error::Syntax { .. } => uris::error::SYNTAX,
            Error::UnknownService { .. } | Error::UnknownVersion { .. } => uris::error::UNKNOWN_SERVICE,
            Error::Unavailable(_) | Error::Store(_) => uris::error::UNAVAILABLE,
            Error::Gone => CANCELED,
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
            Error::UnknownVersion { name, digits, .. } => {
                arguments.push(format!("{name}@{digits}").into());
                arguments.push(name.as_str().into());
            }
            _ => {}
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(name: &str) -> String {
        let error = Error::UnknownService {
            name: name.into(),
            nearest: None,
        };
        error.to_string()
    }

    #[test]
    fn advice_is_to_build_what_can_be_built_and_to_call_it_as_it_can_be_called() {
        assert_eq!(
            unknown("echo"),
            "unknown service 'echo'; build it with: pipes build echo"
        );
        assert_eq!(
            unknown("./echo"),
            "unknown service './echo'; build it with: pipes build ./echo, and call it echo"
        );
        assert_eq!(
            unknown("/usr/bin/["),
            "unknown service '/usr/bin/['; build it with: pipes build --name NAME '/usr/bin/[', and call it NAME"
        );
        assert_eq!(
            unknown("ver@01234567"),
            "unknown service 'ver@01234567'; build it with: pipes build ver"
        );
    }

    #[test]
    fn an_unknown_version_is_told_with_those_there_are() {
        let error = |count: usize| Error::UnknownVersion {
            name: "ver".into(),
            digits: "00000000".into(),
            versions: vec!["0123456789abcdef".to_owned(); count],
        };
        assert_eq!(
            error(2).to_string(),
            "no one version of service 'ver' begins with 00000000; it has 0123456789ab, 0123456789ab"
        );
        assert!(error(7).to_string().ends_with("0123456789ab, 2 older ones"));
        assert_eq!(error(1).uri(), "pipes.error.unknown_service");
    }
}
