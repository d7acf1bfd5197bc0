//! A realm's procedures: who is behind a URI, here and at other nodes.
//!
//! ```text
//! com.sum -> slot 3: registration 7 of this node, and the nodes at links 1 and 4
//! ```
//!
//! Each name has a slot of its own, so that what a lost link had told can be forgotten in slices (`sweep`), while names
//! come and go.
//!
//! Always: (1) at most one registration of this node a procedure (policy `single`); (2) one that is not confirmed by the
//! other nodes counts against a second, but takes no calls yet; (3) an entry with nobody behind it is taken out; (4) the
//! work of each change is the same, however many procedures there are.
//!
//! Not here: who of them is still there. What a session or a link that is gone has left is found until it is cleared
//! (`dealer/leaving`), and whoever asks has to leave it out.

use std::ops::Range;
use std::sync::Arc;

use foldhash::HashMap;

use super::arena::{Arena, Key};
use super::keys::{LinkKey, SessionKey};

/// A realm.
pub(super) struct Realm {
    name: Arc<str>,
    by_name: HashMap<Arc<str>, Key<Procedure>>,
    procedures: Arena<Procedure>,
    /// The slots that are to be swept.
    unswept: Range<usize>,
}

struct Procedure {
    name: Arc<str>,
    /// Registration of this node.
    local: Option<u64>,
    /// Other nodes that have one, by their links.
    far: Vec<LinkKey>,
}

/// Who answers a registration's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callee {
    /// A session.
    Session(SessionKey),
    /// A new session for each call, from this offer.
    Fresh(u32),
}

/// One registration of this node.
pub(super) struct Registration {
    pub realm: Arc<str>,
    pub procedure: Arc<str>,
    pub callee: Callee,
    /// The REGISTER's request; 0 where nobody waits for REGISTERED.
    pub request: u64,
    /// The other nodes know it: it takes calls.
    pub confirmed: bool,
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// To a registration of this node.
    Here(u64),
    /// To another node.
    Far(LinkKey),
}

impl Realm {
    pub fn new(name: &str) -> Realm {
        Realm {
            name: name.into(),
            by_name: HashMap::default(),
            procedures: Arena::default(),
            unswept: 0..0,
        }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many procedures there are.
    pub fn len(&self) -> usize {
        self.procedures.len()
    }

    /// This node's registration.
    pub fn local(&self, procedure: &str) -> Option<u64> {
        self.find(procedure)?.local
    }

    /// The other nodes that have it.
    pub fn far(&self, procedure: &str) -> impl Iterator<Item = LinkKey> {
        let far = self.find(procedure).map(|entry| &entry.far);
        far.into_iter().flatten().copied()
    }

    /// Enters this node's registration; gives the procedure's name, to be shared.
    pub fn insert(&mut self, procedure: &str, registration: u64) -> Option<Arc<str>> {
        let entry = self.entry(procedure)?;
        entry.local = Some(registration);
        Some(entry.name.clone())
    }

    pub fn remove(&mut self, procedure: &str) {
        self.change(procedure, |entry| entry.local = None);
    }

    pub fn insert_far(&mut self, procedure: &str, link: LinkKey) {
        if let Some(Procedure { far, .. }) = self.entry(procedure)
            && !far.contains(&link)
        {
            far.push(link);
        }
    }

    pub fn remove_far(&mut self, procedure: &str, link: LinkKey) {
        self.change(procedure, |entry| entry.far.retain(|other| *other != link));
    }

    /// A link is lost: all procedures are to be swept of what it had told.
    pub fn link_lost(&mut self) {
        self.unswept = 0..self.procedures.slots();
    }

    /// Whether `sweep` has something to do.
    pub fn is_unswept(&self) -> bool {
        !self.unswept.is_empty()
    }

    /// Looks at so many more slots at most, and forgets the links there that are not live.
    pub fn sweep(&mut self, slots: usize, is_live: impl Fn(LinkKey) -> bool) {
        let begin = self.unswept.start;
        let slice = begin..self.unswept.end.min(begin + slots);
        self.unswept.start = slice.end;
        for slot in slice {
            let Some(key) = self.procedures.at(slot) else {
                continue;
            };
            if let Some(entry) = self.procedures.get_mut(key) {
                entry.far.retain(|link| is_live(*link));
            }
            self.drop_empty(key);
        }
    }

    fn find(&self, procedure: &str) -> Option<&Procedure> {
        self.procedures.get(*self.by_name.get(procedure)?)
    }

    /// The entry of a procedure, made when it is the first of it.
    fn entry(&mut self, procedure: &str) -> Option<&mut Procedure> {
        let key = match self.by_name.get(procedure) {
            Some(key) => *key,
            None => {
                let name: Arc<str> = procedure.into();
                let key = self.procedures.insert(Procedure {
                    name: name.clone(),
                    local: None,
                    far: Vec::new(),
                });
                self.by_name.insert(name, key);
                key
            }
        };
        self.procedures.get_mut(key)
    }

    fn change(&mut self, procedure: &str, change: impl FnOnce(&mut Procedure)) {
        if let Some(key) = self.by_name.get(procedure).copied()
            && let Some(entry) = self.procedures.get_mut(key)
        {
            change(entry);
            self.drop_empty(key);
        }
    }

    fn drop_empty(&mut self, key: Key<Procedure>) {
        let entry = self.procedures.get(key);
        if entry.is_some_and(Procedure::is_empty)
            && let Some(entry) = self.procedures.remove(key)
        {
            self.by_name.remove(&entry.name);
        }
    }
}

impl Procedure {
    fn is_empty(&self) -> bool {
        self.local.is_none() && self.far.is_empty()
    }
}
