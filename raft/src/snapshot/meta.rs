//! What is known of a state as a whole, beside its records: how far the log is applied, the members, the leases.
//!
//! Layout 1 of both has no digest.

use serde::{Deserialize, Serialize};

use crate::mvcc::Digest;
use crate::type_config::{self, LogId, Membership};

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
    /// The digest of all that was applied; none while no chain has begun.
    pub(crate) digest: Option<Digest>,
}

/// What the first frame holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) meta: Meta,
    pub(crate) leases: Vec<(i64, u64)>,
}

/// A [`Meta`] of layout 1.
#[derive(Serialize, Deserialize)]
pub(crate) struct MetaWithoutDigest {
    applied: Option<LogId>,
    membership: Membership,
    revision: i64,
    compacted: i64,
}

impl From<MetaWithoutDigest> for Meta {
    fn from(meta: MetaWithoutDigest) -> Meta {
        Meta {
            applied: meta.applied,
            membership: meta.membership,
            revision: meta.revision,
            compacted: meta.compacted,
            digest: None,
        }
    }
}

impl Header {
    /// The header in `body`, of layout 1 or 2.
    pub(super) fn decode(layout: u32, body: &[u8]) -> bincode::Result<Header> {
        if layout > 1 {
            return type_config::decode(body);
        }
        let (meta, leases): (MetaWithoutDigest, _) = type_config::decode(body)?;
        let meta = meta.into();
        Ok(Header { meta, leases })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl From<Meta> for MetaWithoutDigest {
        fn from(meta: Meta) -> MetaWithoutDigest {
            MetaWithoutDigest {
                applied: meta.applied,
                membership: meta.membership,
                revision: meta.revision,
                compacted: meta.compacted,
            }
        }
    }

    #[test]
    fn a_header_from_before_there_were_digests_is_read_without_one() {
        let meta = Meta {
            revision: 7,
            compacted: 3,
            ..Meta::default()
        };
        let mut body = Vec::new();
        type_config::encode_into(
            &(MetaWithoutDigest::from(meta.clone()), vec![(5i64, 3000u64)]),
            &mut body,
        )
        .unwrap();
        let read = Header::decode(1, &body).unwrap();
        assert_eq!((read.meta, read.leases), (meta, vec![(5, 3000)]));
    }
}
