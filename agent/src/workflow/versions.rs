//! The versions that a line's names stand for now: looked up once for a run, and kept by a daemon workflow.

use pipes_protocol::supply::Kind;
use pipes_raft::Store;
use pipes_syntax::Stage;

use crate::cluster::quorum::{Quorum, Undecided};
use crate::service;

/// A name of the line that stands for nothing: the user's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Nothing of that name was built.
    #[error("unknown service '{name}'{}; {}", did_you_mean(.nearest), how_to_build(.name))]
    Service {
        /// As the line has it.
        name: String,
        /// The known name that is closest.
        nearest: Option<String>,
    },
    /// The service was built, but not as that version.
    #[error("no one version of service '{name}' begins with {digits}; it has {}", several(.versions))]
    Version {
        /// The service.
        name: String,
        /// What was given of the digest.
        digits: String,
        /// Digests of those there are, the newest first.
        versions: Vec<String>,
    },
}

/// Why a line's versions are not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user's: a name.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// The cluster's: too few of its servers are up.
    #[error(transparent)]
    Undecided(#[from] Undecided),
    /// The store's.
    #[error("{}", .0.to_people())]
    Store(#[from] pipes_raft::Error),
}

/// What the names stand for now.
pub async fn look_up(store: &Store, quorum: &Quorum, stages: &[Stage]) -> Result<Vec<Kind>, Error> {
    let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    // One linearizable read for all names: what a build anywhere was answered for is seen here.
    let found = quorum.decided(service::find_all(store, &names)).await??;
    let mut kinds = Vec::with_capacity(stages.len());
    for (stage, found) in stages.iter().zip(found) {
        let Some(record) = found else {
            return Err(unknown(store, quorum, stage.name.clone()).await?.into());
        };
        kinds.push(Kind {
            service: record.name,
            digest: record.digest.to_string(),
        });
    }
    Ok(kinds)
}

/// Why nothing of this name was found.
async fn unknown(store: &Store, quorum: &Quorum, reference: String) -> Result<Unknown, Error> {
    if let (name, Some(digits)) = service::split(&reference) {
        let versions = quorum.decided(service::versions(store, name)).await??;
        if !versions.is_empty() {
            return Ok(Unknown::Version {
                name: name.to_owned(),
                digits: digits.to_owned(),
                versions: versions.iter().map(|version| version.digest.hex()).collect(),
            });
        }
    }
    let known = quorum.decided(service::names(store)).await??;
    let nearest = service::nearest(&reference, &known);
    Ok(Unknown::Service {
        name: reference,
        nearest,
    })
}

impl Unknown {
    /// What programs want to know beside the sentence: the name in the line, and the one that was probably meant.
    pub fn names(&self) -> (String, Option<String>) {
        match self {
            Unknown::Service { name, nearest } => (name.clone(), nearest.clone()),
            Unknown::Version { name, digits, .. } => (format!("{name}@{digits}"), Some(name.clone())),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(name: &str) -> String {
        let unknown = Unknown::Service {
            name: name.into(),
            nearest: None,
        };
        unknown.to_string()
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
        let error = |count: usize| Unknown::Version {
            name: "ver".into(),
            digits: "00000000".into(),
            versions: vec!["0123456789abcdef".to_owned(); count],
        };
        assert_eq!(
            error(2).to_string(),
            "no one version of service 'ver' begins with 00000000; it has 0123456789ab, 0123456789ab"
        );
        assert!(error(7).to_string().ends_with("0123456789ab, 2 older ones"));
        assert_eq!(error(1).names(), ("ver@00000000".into(), Some("ver".into())));
    }
}
