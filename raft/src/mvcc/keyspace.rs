//! Which revisions wrote which key, in memory: 16 bytes a write beside the key.
//!
//! A key lives in generations: from a creation (version 1) over its further versions to its deletion (version 0).
//!
//! ```text
//! a: (2,v1) (3,v2) (4,v0) (5,v1)        two generations: created at 2, deleted at 4; created at 5
//! ```
//!
//! Always: (1) a history's revisions rise; (2) within a generation versions rise by one; (3) a history is never
//! empty. Compaction may cut a generation's beginning off: `first_create` then remembers its creation.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::revision::Revision;

/// The keys with their histories.
#[derive(Debug, Default)]
pub(crate) struct Keyspace {
    keys: BTreeMap<Vec<u8>, History>,
}

#[derive(Debug)]
pub(super) struct History {
    /// The creation of the first generation kept, which may itself be compacted away.
    pub(super) first_create: i64,
    pub(super) written: Vec<Written>,
}

/// One write; a version of 0 is a deletion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) main: i64,
    pub(super) sub: u32,
    pub(super) version: u32,
}

impl Written {
    pub(super) fn revision(self) -> Revision {
        Revision {
            main: self.main,
            sub: self.sub,
        }
    }
}

/// A live key as found at a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where its record lies.
    pub(crate) revision: Revision,
    /// When it was created.
    pub(crate) create: i64,
    /// How often it was written since.
    pub(crate) version: i64,
}

impl History {
    fn found(&self, at: usize) -> Option<Found> {
        let written = self.written.get(at)?;
        if written.version == 0 {
            return None;
        }
        let back = written.version as usize - 1;
        // Within a generation versions are consecutive, so its creation lies `back` places before.
        let create = if back > at {
            self.first_create
        } else {
            self.written[at - back].main
        };
        Some(Found {
            revision: written.revision(),
            create,
            version: i64::from(written.version),
        })
    }

    /// The state after all writes of revisions up to `main`.
    fn at(&self, main: i64) -> Option<Found> {
        let after = self.written.partition_point(|written| written.main <= main);
        self.found(after.checked_sub(1)?)
    }
}

/// The bounds of a range of keys.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Where `[key, end)` lies in a map; nowhere where it ends before it begins, at which a BTreeMap would panic.
pub(super) fn bounds<'a>(key: &'a [u8], end: Option<&'a [u8]>) -> Option<Bounds<'a>> {
    let upper = match end {
        None => Bound::Included(key),
        Some([0]) => Bound::Unbounded,
        Some(end) if end <= key => return None,
        Some(end) => Bound::Excluded(end),
    };
    Some((Bound::Included(key), upper))
}

impl Keyspace {
    /// Notes a write of `key`; gives its creation and version.
    pub(crate) fn put(&mut self, key: &[u8], revision: Revision) -> (i64, i64) {
        let (create, version) = self.next(key, revision.main);
        self.restore(key, revision, create, version);
        (create, version)
    }

    /// The creation and version that a write of `key` has at `main`, which is to come.
    pub(super) fn next(&self, key: &[u8], main: i64) -> (i64, i64) {
        let history = self.keys.get(key);
        match history.and_then(|history| history.found(history.written.len() - 1)) {
            Some(found) => (found.create, found.version + 1),
            None => (main, 1),
        }
    }

    /// Notes a deletion of `key`, which must be there.
    pub(crate) fn delete(&mut self, key: &[u8], revision: Revision) {
        self.restore(key, revision, 0, 0);
    }

    /// Notes a write as it was recorded; a key's writes come in the order of their revisions.
    pub(crate) fn restore(&mut self, key: &[u8], revision: Revision, create: i64, version: i64) {
        // A version beyond u32 would need four thousand million writes of one key: held at the end of the range.
        let version = u32::try_from(version).unwrap_or(u32::MAX);
        let written = Written {
            main: revision.main,
            sub: revision.sub,
            version,
        };
        match self.keys.get_mut(key) {
            Some(history) => history.written.push(written),
            None => {
                let history = History {
                    first_create: create,
                    written: vec![written],
                };
                self.keys.insert(key.to_vec(), history);
            }
        }
    }

    /// The key after all writes of revisions up to `main`.
    pub(crate) fn at(&self, key: &[u8], main: i64) -> Option<Found> {
        self.keys.get(key)?.at(main)
    }

    /// The keys of a range, in order, as they are after all writes of revisions up to `main`. Those that are not live then
    /// are passed over as well, and told as such; not so a single key.
    pub(super) fn walk<'a>(
        &'a self,
        key: &'a [u8],
        end: Option<&'a [u8]>,
        main: i64,
    ) -> Box<dyn Iterator<Item = (&'a [u8], Option<Found>)> + 'a> {
        if end.is_none() {
            return Box::new(self.at(key, main).map(|found| (key, Some(found))).into_iter());
        }
        let keys = bounds(key, end).map(|bounds| self.keys.range::<[u8], _>(bounds));
        let found = move |(key, history): (&'a Vec<u8>, &History)| (key.as_slice(), history.at(main));
        Box::new(keys.into_iter().flatten().map(found))
    }

    /// The key as it was right before the write at `revision`.
    pub(crate) fn before(&self, key: &[u8], revision: Revision) -> Option<Found> {
        let history = self.keys.get(key)?;
        let at = history
            .written
            .partition_point(|written| written.revision() < revision);
        history.found(at.checked_sub(1)?)
    }

    /// Lets `keep` change each history and forgets those it empties.
    pub(super) fn retain(&mut self, mut change: impl FnMut(&mut History)) {
        self.keys.retain(|_, history| {
            change(history);
            !history.written.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rev(main: i64) -> Revision {
        Revision::first_of(main)
    }

    #[test]
    fn a_key_is_read_at_every_revision_as_it_was() {
        let mut keys = Keyspace::default();
        assert_eq!(keys.put(b"a", rev(2)), (2, 1));
        assert_eq!(keys.put(b"a", rev(3)), (2, 2));
        keys.delete(b"a", rev(4));
        assert_eq!(keys.put(b"a", rev(5)), (5, 1));
        assert_eq!(keys.at(b"a", 1), None);
        assert_eq!(
            keys.at(b"a", 3).map(|found| (found.create, found.version)),
            Some((2, 2))
        );
        assert_eq!(keys.at(b"a", 4), None);
        assert_eq!(
            keys.at(b"a", 9).map(|found| (found.create, found.version)),
            Some((5, 1))
        );
        assert_eq!(keys.before(b"a", rev(4)).map(|found| found.version), Some(2));
        assert_eq!(keys.before(b"a", rev(5)), None);
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_empty() {
        let mut keys = Keyspace::default();
        keys.put(b"b", rev(2));
        assert_eq!(keys.walk(b"c", Some(b"a"), 2).count(), 0);
        assert_eq!(keys.walk(b"a", Some(b"\0"), 2).count(), 1);
        assert_eq!(keys.walk(b"b", None, 2).count(), 1);
    }
}
