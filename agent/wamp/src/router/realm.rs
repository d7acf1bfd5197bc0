//! A realm's procedures: who is behind a URI, here and at other nodes.
//!
//! Always: (1) at most one registration of this node a procedure (policy `single`); (2) one that is not confirmed by the
//! other nodes counts against a second, but takes no calls yet; (3) an entry with nobody behind it is taken out.

use foldhash::HashMap;

use super::keys::{LinkKey, SessionKey};

/// A realm.
#[derive(Default)]
pub(super) struct Realm {
    procedures: HashMap<Box<str>, Procedure>,
}

#[derive(Default)]
struct Procedure {
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
    pub realm: Box<str>,
    pub procedure: Box<str>,
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
    pub fn is_taken(&self, procedure: &str) -> bool {
        self.procedures.contains_key(procedure)
    }

    /// This node's registration.
    pub fn local(&self, procedure: &str) -> Option<u64> {
        self.procedures.get(procedure)?.local
    }

    /// The first of the other nodes that have it.
    pub fn far(&self, procedure: &str) -> Option<LinkKey> {
        self.procedures.get(procedure)?.far.first().copied()
    }

    pub fn insert(&mut self, procedure: &str, registration: u64) {
        self.procedures.entry(procedure.into()).or_default().local = Some(registration);
    }

    pub fn remove(&mut self, procedure: &str) {
        self.change(procedure, |entry| entry.local = None);
    }

    pub fn insert_far(&mut self, procedure: &str, link: LinkKey) {
        let far = &mut self.procedures.entry(procedure.into()).or_default().far;
        if !far.contains(&link) {
            far.push(link);
        }
    }

    pub fn remove_far(&mut self, procedure: &str, link: LinkKey) {
        self.change(procedure, |entry| entry.far.retain(|other| *other != link));
    }

    /// Forgets all that a lost link told.
    pub fn forget(&mut self, link: LinkKey) {
        self.procedures.retain(|_, entry| {
            entry.far.retain(|other| *other != link);
            !entry.is_empty()
        });
    }

    fn change(&mut self, procedure: &str, change: impl FnOnce(&mut Procedure)) {
        if let Some(entry) = self.procedures.get_mut(procedure) {
            change(entry);
            if entry.is_empty() {
                self.procedures.remove(procedure);
            }
        }
    }
}

impl Procedure {
    fn is_empty(&self) -> bool {
        self.local.is_none() && self.far.is_empty()
    }
}
