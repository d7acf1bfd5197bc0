//! What is known of a state as a whole, beside its records: how far the log is applied, the members, the leases.

use serde::{Deserialize, Serialize};

use crate::type_config::{LogId, Membership};

/// What is known of the state as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The last entry applied.
    pub(crate) applied: Option<LogId>,
    /// The members as of then.
    pub(crate) membership: Membership,
    /// The store's revision.
    pub(crate) revision: i64,
    /// The revision up to which history is forgotten.
    pub(crate) compacted: i64,
}

/// What the first frame holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) meta: Meta,
    pub(crate) leases: Vec<(i64, u64)>,
}
