//! Who is told which change: the watchers of one key by that key, those of ranges one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Event;

/// What a watch looks at: one key, or a range as in [`crate::Range`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) key: Vec<u8>,
    pub(crate) end: Option<Vec<u8>>,
}

impl Scope {
    /// Whether the key is in it.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match self.end.as_deref() {
            None => key == self.key,
            Some([0]) => key >= self.key.as_slice(),
            Some(end) => key >= self.key.as_slice() && key < end,
        }
    }
}

/// What a watcher is told at once: the events of one revision that concern it.
#[derive(Debug, Clone)]
pub(crate) struct Notification {
    pub(crate) revision: i64,
    pub(crate) events: Vec<Arc<Event>>,
}

impl Notification {
    /// One that begins with this event.
    pub(crate) fn new(revision: i64, first: Arc<Event>) -> Notification {
        Notification {
            revision,
            events: vec![first],
        }
    }
}

/// The watchers, each with what its owner needs to be told.
#[derive(Debug)]
pub(crate) struct Watchers<T> {
    next_id: u64,
    of_keys: BTreeMap<Vec<u8>, Vec<u64>>,
    of_ranges: Vec<u64>,
    all: BTreeMap<u64, (Scope, T)>,
}

impl<T> Default for Watchers<T> {
    fn default() -> Watchers<T> {
        Watchers {
            next_id: 1,
            of_keys: BTreeMap::new(),
            of_ranges: Vec::new(),
            all: BTreeMap::new(),
        }
    }
}

impl<T> Watchers<T> {
    /// Adds a watcher.
    pub(crate) fn add(&mut self, scope: Scope, owner: T) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        match scope.end {
            None => self.of_keys.entry(scope.key.clone()).or_default().push(id),
            Some(_) => self.of_ranges.push(id),
        }
        self.all.insert(id, (scope, owner));
        id
    }

    /// Takes a watcher out.
    pub(crate) fn remove(&mut self, id: u64) -> Option<T> {
        let (scope, owner) = self.all.remove(&id)?;
        match scope.end {
            None => {
                if let Some(ids) = self.of_keys.get_mut(&scope.key) {
                    ids.retain(|other| *other != id);
                    if ids.is_empty() {
                        self.of_keys.remove(&scope.key);
                    }
                }
            }
            Some(_) => self.of_ranges.retain(|other| *other != id),
        }
        Some(owner)
    }

    /// The owner of a watcher.
    pub(crate) fn owner(&mut self, id: u64) -> Option<&mut T> {
        self.all.get_mut(&id).map(|(_, owner)| owner)
    }

    /// The watchers that a change of `key` concerns.
    pub(crate) fn concerned(&self, key: &[u8], ids: &mut Vec<u64>) {
        ids.clear();
        if let Some(of_key) = self.of_keys.get(key) {
            ids.extend_from_slice(of_key);
        }
        let contains = |id: &&u64| self.all.get(id).is_some_and(|(scope, _)| scope.contains(key));
        ids.extend(self.of_ranges.iter().filter(contains));
    }

    /// Whether nobody watches.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many watch.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Takes all out.
    pub(crate) fn clear(&mut self) {
        let next_id = self.next_id;
        *self = Watchers {
            next_id,
            ..Watchers::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_concerns_whoever_watches_its_key_or_a_range_around_it() {
        let mut watchers = Watchers::default();
        let scope = |key: &str, end: Option<&str>| Scope {
            key: key.as_bytes().to_vec(),
            end: end.map(|end| end.as_bytes().to_vec()),
        };
        let one = watchers.add(scope("a", None), ());
        let range = watchers.add(scope("a", Some("c")), ());
        let rest = watchers.add(scope("b", Some("\0")), ());
        let concerned = |key: &[u8], watchers: &Watchers<()>| {
            let mut ids = Vec::new();
            watchers.concerned(key, &mut ids);
            ids
        };
        assert_eq!(concerned(b"a", &watchers), [one, range]);
        assert_eq!(concerned(b"b", &watchers), [range, rest]);
        assert_eq!(concerned(b"c", &watchers), [rest]);
        watchers.remove(range);
        assert_eq!(concerned(b"a", &watchers), [one]);
        assert_eq!(watchers.len(), 2);
    }
}
