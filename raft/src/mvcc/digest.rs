//! A running digest of all that was applied, by which members see that they hold the same.
//!
//! Each entry carries it on: it is of the digest before, the entry's place in the log, its bytes, and what it changed,
//! in order. So two members with equal digests at one index have done the same from where the chain began, and two
//! whose digests differ once differ from then on.
//!
//! A chain begins in an empty store, or by an entry of the log in one that had none; one whose number differs is not
//! comparable, so that members say nothing of one another while `apply` changes.
//!
//! SipHash-1-3 of 128 bits, without a key: an entry costs one hash of some hundred octets, less than the checksum of its
//! frame and its copy into memory. Nobody here is an adversary: a digest finds errors, not forgeries.

use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::revision::{Record, Revision};

/// The chain that this program writes; it rises whenever `apply` does something else with the same entry. The first had no
/// clock.
pub(crate) const CHAIN: u32 = 2;

/// The digest of all that was applied, up to and with some entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    chain: u32,
    value: u128,
}

/// A digest that is being carried on by one entry.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trace(SipHasher13);

impl Digest {
    /// Where a chain begins.
    pub(crate) fn beginning(chain: u32) -> Digest {
        Digest { chain, value: 0 }
    }

    /// Which chain it is of.
    pub(crate) fn chain(&self) -> u32 {
        self.chain
    }

    /// Whether the two are of one chain, and yet not the same.
    pub(crate) fn differs(&self, other: &Digest) -> bool {
        self.chain == other.chain && self.value != other.value
    }

    /// Carries it on by what `trace` was told since it began with this one.
    pub(crate) fn carried_on(self, trace: Trace, revision: i64, compacted: i64, clock_ms: u64) -> Digest {
        let mut trace = trace;
        trace.number(revision);
        trace.number(compacted);
        trace.0.write(&clock_ms.to_le_bytes());
        Digest {
            chain: self.chain,
            value: trace.0.finish128().into(),
        }
    }
}

/// A digest of keys as they are at one revision, told in their order.
#[derive(Debug, Default)]
pub(crate) struct ContentDigest(Trace);

impl ContentDigest {
    /// The next key: its record, and the revision of that.
    pub(crate) fn key(&mut self, revision: Revision, record: &Record) {
        self.0.record(revision, record);
    }

    /// The digest of all keys told.
    pub(crate) fn finish(self) -> u128 {
        self.0.0.finish128().into()
    }
}

impl Trace {
    /// Begins with an entry: the digest before it, its place and its bytes.
    pub(crate) fn of_entry(before: Option<Digest>, term: u64, index: u64, bytes: &[u8]) -> Trace {
        let mut trace = Trace::default();
        trace
            .0
            .write(&before.map_or(0, |before| before.value).to_le_bytes());
        trace.0.write(&term.to_le_bytes());
        trace.0.write(&index.to_le_bytes());
        trace.bytes(bytes);
        trace
    }

    /// A record is written.
    pub(super) fn record(&mut self, revision: Revision, record: &Record) {
        self.0.write(&revision.to_bytes());
        self.bytes(&record.key);
        self.bytes(&record.value);
        self.number(record.create);
        self.number(record.version);
        self.number(record.lease);
    }

    /// A lease is made, or ended.
    pub(super) fn lease(&mut self, id: i64, ttl_ms: Option<u64>) {
        self.number(id);
        self.0
            .write(&ttl_ms.map_or(u64::MAX, |ttl_ms| ttl_ms).to_le_bytes());
    }

    fn number(&mut self, number: i64) {
        self.0.write(&number.to_le_bytes());
    }

    /// With their length, so that no two sequences of fields are the same octets.
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.write(&(bytes.len() as u64).to_le_bytes());
        self.0.write(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str) -> Record {
        Record {
            key: key.into(),
            value: value.into(),
            create: 2,
            version: 1,
            lease: 0,
        }
    }

    fn digest(term: u64, index: u64, bytes: &[u8], records: &[Record]) -> Digest {
        let before = Digest::beginning(CHAIN);
        let mut trace = Trace::of_entry(Some(before), term, index, bytes);
        for (sub, record) in records.iter().enumerate() {
            let revision = Revision {
                main: 2,
                sub: sub as u32,
            };
            trace.record(revision, record);
        }
        before.carried_on(trace, 2, 0, 5)
    }

    #[test]
    fn every_part_of_an_entry_and_of_its_changes_counts() {
        let (a, b) = (record("a", "1"), record("b", "1"));
        let same = || digest(1, 7, b"entry", &[a.clone(), b.clone()]);
        assert_eq!(same(), same());
        let others = [
            digest(2, 7, b"entry", &[a.clone(), b.clone()]),
            digest(1, 8, b"entry", &[a.clone(), b.clone()]),
            digest(1, 7, b"entrY", &[a.clone(), b.clone()]),
            digest(1, 7, b"entry", &[b.clone(), a.clone()]),
            digest(1, 7, b"entry", std::slice::from_ref(&a)),
            digest(1, 7, b"entry", &[record("a", "2"), b.clone()]),
            digest(1, 7, b"entry", &[record("a1", ""), b.clone()]),
        ];
        for other in others {
            assert!(other.differs(&same()));
        }
    }

    #[test]
    fn what_is_carried_on_from_different_digests_stays_different() {
        let before = [Digest::beginning(CHAIN), digest(1, 7, b"entry", &[])];
        let [one, other] =
            before.map(|before| before.carried_on(Trace::of_entry(Some(before), 1, 8, b""), 2, 0, 5));
        assert!(one.differs(&other));
    }

    #[test]
    fn digests_of_different_chains_say_nothing_of_each_other() {
        let (one, other) = (Digest::beginning(1), Digest::beginning(2));
        assert_ne!(one, other);
        assert!(!one.differs(&other));
    }
}
