//! What the store keeps of a daemon workflow: the wish, in one key.
//!
//! ```json
//! {"name": "words", "wish": "running", "port": 7100, "revision": 3, "created": "2026-11-24T20:15:00.123Z",
//!  "definition": {"line": "tr a-z A-Z | sort", "stages": [{"service": "tr", "digest": "sha256:..", "args": ["a-z", "A-Z"]}, ..],
//!                 "options": {"timeout": 10.0, "replicas": {"2": 3}, "concurrency": 4, "keep": 86400.0, ..}},
//!  "former": [..]}
//! ```
//!
//! Always: (1) a definition has the versions it was started with; (2) its revision is raised with each change of it; (3)
//! ten former ones are kept, the newest last.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pipes_protocol::stage::File;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::certificate::Pair;
use crate::workflow::options::BODY_MAX;

/// Former definitions that are kept.
pub const FORMER_MAX: usize = 10;

/// A daemon workflow: the value of its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// `[a-z0-9-]`, at most 63.
    pub name: String,
    /// What should be.
    pub wish: Wish,
    /// Its own port on every agent; `None`: it is served on the common one alone.
    pub port: Option<u16>,
    /// The address to listen at, where it is not each server's own.
    #[serde(default)]
    pub bind: Option<IpAddr>,
    /// Raised with each change of the definition, from 1.
    pub revision: u64,
    /// What it runs.
    pub definition: Definition,
    /// What it ran before, the newest last.
    #[serde(default)]
    pub former: Vec<Definition>,
    /// SHA-256 of the token that its users must show, in hexadecimal digits.
    #[serde(default)]
    pub token_sha256: Option<String>,
    /// It is served over TLS alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What its jobs under way had to end when it was stopped, in seconds; afterwards they go back to the queue.
    #[serde(default)]
    pub grace: Option<f64>,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// Another one with each write, so that whoever lost the answer to one knows its own.
    #[serde(default)]
    pub write: String,
}

/// By which certificate a workflow is served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tls {
    /// The one that was given; `None`: each server's own, of the cluster's authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<Pair>,
}

/// What should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// It serves.
    Running,
    /// It takes nothing new, and what is queued waits.
    Stopped,
}

/// What a daemon workflow runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The workflow's revision that brought it: it stays where replicas are scaled, and comes back with a rollback.
    #[serde(default)]
    pub revision: u64,
    /// The line as typed.
    pub line: String,
    /// Its stages, in order.
    pub stages: Vec<Stage>,
    /// How each of its runs is run.
    pub options: Options,
}

/// A stage with the version that it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The service's name, without a digest.
    pub service: String,
    /// `sha256:HEX`.
    pub digest: String,
    /// Its arguments; what is no UTF-8 in them is replaced, as they are for showing.
    pub args: Vec<String>,
}

/// Options of a daemon workflow, by the long names of the command line. What is not known is ignored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The status is the last stage's that failed.
    pub pipefail: bool,
    /// Of each job and each streamed request, in seconds.
    pub timeout: Option<f64>,
    /// Variables for every stage.
    pub env: BTreeMap<String, ByteBuf>,
    /// STAGE to NODE, as written.
    pub place: BTreeMap<String, String>,
    /// Files that lie in each stage's working directory.
    pub files: Vec<File>,
    /// Bytes that each stage's scratch directory may hold.
    pub scratch: Option<u64>,
    /// STAGE, from 1, to replicas that are kept.
    pub replicas: BTreeMap<u32, u32>,
    /// Jobs at once a replica.
    pub concurrency: Option<u32>,
    /// How often a job is tried again whose status is not 0.
    pub retries: u32,
    /// How long jobs are kept after their end, in seconds.
    pub keep: Option<f64>,
    /// Jobs are listed over HTTP without a token.
    pub list: bool,
    /// Largest body and result in bytes.
    pub body: Option<u64>,
    /// Origins whose pages may send requests.
    pub cors: Vec<String>,
}

impl Options {
    /// Bytes of an input and of a result that are taken.
    pub fn body_max(&self) -> u64 {
        self.body.unwrap_or(BODY_MAX)
    }
}

impl Workflow {
    /// The value of its key, read.
    pub fn read(value: &[u8]) -> Result<Workflow, serde_json::Error> {
        serde_json::from_slice(value)
    }
}
