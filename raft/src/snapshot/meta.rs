//! What is known of a state as a whole, beside its records: how far the log is applied, the members, the leases.
//!
//! Layout 1 of both has no digest, layout 2 no clock.

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
    /// What the store's clock read at least, in milliseconds: the highest time of all that was applied.
    pub(crate) clock_ms: u64,
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
            clock_ms: 0,
        }
    }
}

/// A [`Meta`] of layout 2.
#[derive(Serialize, Deserialize)]
pub(crate) struct MetaWithoutClock {
    meta: MetaWithoutDigest,
    digest: Option<Digest>,
}

impl From<MetaWithoutClock> for Meta {
    fn from(before: MetaWithoutClock) -> Meta {
        let digest = before.digest;
        Meta {
            digest,
            ..before.meta.into()
        }
    }
}

impl Header {
    /// The header in `body`, of any layout so far.
    pub(super) fn decode(layout: u32, body: &[u8]) -> bincode::Result<Header> {
        let (meta, leases) = match layout {
            1 => {
                let (meta, leases): (MetaWithoutDigest, _) = type_config::decode(body)?;
                (meta.into(), leases)
            }
            2 => {
                let (meta, leases): (MetaWithoutClock, _) = type_config::decode(body)?;
                (meta.into(), leases)
            }
            _ => type_config::decode(body)?,
        };
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

    impl From<Meta> for MetaWithoutClock {
        fn from(meta: Meta) -> MetaWithoutClock {
            MetaWithoutClock {
                digest: meta.digest,
                meta: meta.into(),
            }
        }
    }

    #[test]
    fn a_header_of_an_older_layout_is_read_without_what_it_lacks() {
        let mut meta = Meta {
            revision: 7,
            compacted: 3,
            ..Meta::default()
        };
        let leases = vec![(5i64, 3000u64)];
        let encoded = |header: &dyn Fn(&mut Vec<u8>) -> bincode::Result<()>| {
            let mut body = Vec::new();
            header(&mut body).unwrap();
            body
        };
        let first = (MetaWithoutDigest::from(meta.clone()), &leases);
        let body = encoded(&|body| type_config::encode_into(&first, body));
        let read = Header::decode(1, &body).unwrap();
        assert_eq!((&read.meta, &read.leases), (&meta, &leases));

        meta.digest = Some(Digest::beginning(1));
        let second = (MetaWithoutClock::from(meta.clone()), &leases);
        let body = encoded(&|body| type_config::encode_into(&second, body));
        let read = Header::decode(2, &body).unwrap();
        assert_eq!((&read.meta, &read.leases), (&meta, &leases));

        meta.clock_ms = 99;
        let third = Header {
            meta: meta.clone(),
            leases: leases.clone(),
        };
        let body = encoded(&|body| type_config::encode_into(&third, body));
        let read = Header::decode(3, &body).unwrap();
        assert_eq!((&read.meta, &read.leases), (&meta, &leases));
    }
}
