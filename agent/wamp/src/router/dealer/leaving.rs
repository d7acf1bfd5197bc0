//! What becomes of what a session or a link has left behind.
//!
//! ```text
//! leave       calls end, nobody finds the session any more       its registrations wait ->  clear, a slice a turn
//! link_lost   calls end, nobody finds the link any more          what it told waits     ->  clear, a slice a turn
//! ```
//!
//! A session that had much does not stop what others say meanwhile. Always: what waits to be cleared takes no calls and is
//! in nobody's way who registers the same.

use super::{Dealer, LinkKey, SessionKey};
use crate::error::uri;
use crate::router::outbox::Outbox;

/// Registrations of sessions that are gone that are taken back in one turn: a fraction of a millisecond.
const WITHDRAWN_AT_ONCE: usize = 256;
/// Procedures of each realm that are looked at in one turn after a link was lost: as long.
const SWEPT_AT_ONCE: usize = 1024;

impl Dealer {
    /// The session is gone, in order or not: its calls end, and its registrations take none any more.
    pub fn leave(&mut self, key: SessionKey, out: &mut impl Outbox) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        let (id, registrations) = (session.id, std::mem::take(&mut session.registrations));
        // In the order of their numbers, so that the same input gives the same output.
        let mut made: Vec<_> = session
            .calls
            .iter()
            .map(|(request, call)| (*request, *call))
            .collect();
        let invocations = session.invocations.iter();
        let mut given: Vec<_> = invocations.map(|(request, call)| (*request, *call)).collect();
        made.sort_unstable();
        given.sort_unstable();
        for (_, call) in made {
            self.caller_left(call, out);
        }
        for (_, call) in given {
            self.fail(call, uri::CANCELED, out);
        }
        self.sessions.remove(key);
        if self.own.get(&id) == Some(&key) {
            self.own.remove(&id);
        }
        if !registrations.is_empty() {
            self.left.push_back(registrations);
        }
    }

    /// Clears a slice of what those left who are gone. To be called once a turn.
    pub fn clear(&mut self, out: &mut impl Outbox) {
        for _ in 0..WITHDRAWN_AT_ONCE {
            let Some(registrations) = self.left.front_mut() else {
                break;
            };
            match registrations.pop_first() {
                Some(registration) => self.withdraw(registration, out),
                None => _ = self.left.pop_front(),
            }
        }
        let links = &self.links;
        let is_live = |link: LinkKey| links.get(link).is_some();
        for realm in self.realms.values_mut() {
            realm.sweep(SWEPT_AT_ONCE, is_live);
        }
    }

    /// Whether `clear` has something to do.
    pub fn has_leftovers(&self) -> bool {
        !self.left.is_empty() || self.realms.values().any(|realm| realm.is_unswept())
    }
}
