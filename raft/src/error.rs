//! What can go wrong with the store, whose fault it is, and whether one may try again.
//!
//! The texts are etcd's own wherever etcd has one, so that a facade passes them on unchanged. Three questions are
//! answered by every variant: [`Error::fault`] (whose), [`Error::may_retry`] (surely nothing was written), and
//! [`Error::is_final`] (this node's store has ended; only opening it anew helps).

use serde::{Deserialize, Serialize};

/// A failed request to the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// No leader is known, and none was found before the deadline. Nothing was proposed.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// The deadline passed before the request reached a leader. Nothing was proposed.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The request may have been carried out or may yet be: read back before doing it again.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    Unknown,
    /// As many proposals are in flight as this node takes. Nothing was proposed.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// The revision asked for is older than the history that is kept.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The oldest revision that can still be read.
        revision: i64,
    },
    /// The revision asked for has not been written yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// A request without a key.
    #[error("etcdserver: key is not provided")]
    KeyNotProvided,
    /// A transaction with more operations than [`crate::OPERATIONS_MAX`].
    #[error("etcdserver: too many operations in txn request")]
    TooManyOperations,
    /// A transaction that would write one key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A request larger than [`crate::REQUEST_BYTES_MAX`].
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// The lease does not exist, or has expired.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease with this id exists already.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// There is no member of this id.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// The group does not take this change of its members; the text says why.
    #[error("{0}")]
    Refused(String),
    /// This node's store has ended, by shutdown or by a failure of its disk.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// What lies on disk or came from a peer cannot be read; the text names it.
    #[error("{0}")]
    Corrupt(String),
    /// The disk failed; the text names the file.
    #[error("{0}")]
    Disk(String),
    /// Replicas differ, and no majority of them agrees: nothing is read or written until an operator has decided.
    #[error(
        "the replicas of the store differ and no majority of them agrees: find out which is right, and make each of the \
         others new with: pipes node reset NAME"
    )]
    ReplicasDiffer,
    /// A transaction that would read more than [`crate::TXN_READ_BYTES_MAX`] or [`crate::TXN_KEYS_MAX`]; it wrote nothing.
    #[error("etcdserver: too much read in txn request: read less at once")]
    ReadsTooMuch,
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request itself: every member would refuse it.
    Caller,
    /// The cluster, for the moment: no leader, no quorum, too much at once.
    Cluster,
    /// This node: its disk or its files.
    Node,
}

impl Error {
    /// What a person is told: what is wrong and what to do. [`Error`]'s own text is etcd's, for its clients.
    pub fn to_people(&self) -> String {
        match self {
            Error::NoLeader | Error::Timeout => {
                "too few of the cluster's servers are up for it to decide anything; start those that are down"
                    .into()
            }
            Error::TooManyRequests => "the store has too much to do at once; try again".into(),
            Error::ReplicasDiffer | Error::Refused(_) => self.to_string(),
            error if error.fault() == Fault::Caller => {
                let text = error.to_string();
                let why = text.strip_prefix("etcdserver: ").unwrap_or(&text);
                format!("the store does not take this request: {why}")
            }
            error => format!("the store does not answer: {error}"),
        }
    }

    /// Whose fault this is.
    pub fn fault(&self) -> Fault {
        match self {
            Error::NoLeader
            | Error::Timeout
            | Error::Unknown
            | Error::TooManyRequests
            | Error::ReplicasDiffer => Fault::Cluster,
            Error::Stopped | Error::Corrupt(_) | Error::Disk(_) => Fault::Node,
            Error::Compacted { .. }
            | Error::FutureRevision
            | Error::KeyNotProvided
            | Error::TooManyOperations
            | Error::DuplicateKey
            | Error::RequestTooLarge
            | Error::ReadsTooMuch
            | Error::LeaseNotFound
            | Error::LeaseExists
            | Error::MemberNotFound
            | Error::Refused(_) => Fault::Caller,
        }
    }

    /// Whether the same request may simply be sent again: surely nothing was written, and it may succeed later.
    pub fn may_retry(&self) -> bool {
        matches!(self, Error::NoLeader | Error::Timeout | Error::TooManyRequests)
    }

    /// Whether nobody led who could have decided it.
    pub fn is_undecided(&self) -> bool {
        matches!(self, Error::NoLeader | Error::Timeout)
    }

    /// Whether this node's store will answer everything so until it is opened anew.
    pub fn is_final(&self) -> bool {
        matches!(self, Error::Stopped | Error::Corrupt(_) | Error::Disk(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_request_is_not_told_as_a_store_that_does_not_answer() {
        let said = |error: Error| error.to_people();
        assert_eq!(
            said(Error::KeyNotProvided),
            "the store does not take this request: key is not provided"
        );
        assert_eq!(
            said(Error::Compacted { revision: 7 }),
            "the store does not take this request: mvcc: required revision has been compacted"
        );
        assert_eq!(said(Error::Refused("one is too few".into())), "one is too few");
        assert!(!said(Error::TooManyRequests).contains("does not answer"));
        assert!(said(Error::Stopped).contains("does not answer"));
    }

    #[test]
    fn only_what_was_surely_not_proposed_may_be_sent_again() {
        assert!(Error::NoLeader.may_retry());
        assert!(Error::Timeout.may_retry());
        assert!(!Error::Unknown.may_retry());
        assert!(!Error::LeaseNotFound.may_retry());
        assert_eq!(Error::Unknown.fault(), Fault::Cluster);
        assert!(Error::Disk("x".into()).is_final());
    }
}
