//! What is kept of one version of a service.

use serde::{Deserialize, Serialize};

use crate::blob::Digest;
use crate::service::Kind;

/// One version of a service: the value of its key, and the object that listings show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the service is called.
    pub name: String,
    /// Of the executable's bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// What the executable is.
    pub kind: Kind,
    /// When it was built, RFC 3339 in UTC.
    pub built: String,
}
