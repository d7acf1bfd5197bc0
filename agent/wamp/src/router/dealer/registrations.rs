//! REGISTER and UNREGISTER.

use super::{Dealer, LinkKey, SessionKey, Violation};
use crate::error::uri;
use crate::message::{Message, RegisterOptions, kind};
use crate::router::outbox::{Charge, Outbox};
use crate::router::realm::{Callee, Realm, Registration};
use crate::uri::is_loose;

/// Procedures that one session may register: far more than a program has, few enough that one alone fills no realm. A
/// further one is answered `wamp.error.unavailable`.
pub(super) const OF_SESSION_MAX: usize = 1_000;

/// Procedures of a realm, those that other nodes told of among them: each takes some 500 octets of every node's memory.
/// A further one is answered `wamp.error.unavailable`.
pub(super) const OF_REALM_MAX: usize = 100_000;

/// How often a registration was one too many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Of its session.
    pub of_session: u64,
    /// Of its realm.
    pub of_realm: u64,
}

impl Dealer {
    pub(super) fn register(
        &mut self,
        from: SessionKey,
        request: u64,
        options: &RegisterOptions<'_>,
        procedure: &str,
        out: &mut impl Outbox,
    ) -> Result<(), Violation> {
        let Some(session) = self.session(from) else {
            return Ok(());
        };
        let realm = session.realm.clone();
        match self.refusal(from, options, &realm, procedure, out) {
            None => self.offer(&realm, procedure, Callee::Session(from), request, out),
            Some(error) => out.refuse(from, (kind::REGISTER, request), error),
        }
        Ok(())
    }

    /// Why a session may not register a procedure.
    fn refusal(
        &mut self,
        from: SessionKey,
        options: &RegisterOptions<'_>,
        realm: &str,
        procedure: &str,
        out: &mut impl Outbox,
    ) -> Option<&'static str> {
        let session = self.session(from)?;
        if !is_loose(procedure) || procedure.starts_with("wamp.") {
            return Some(uri::INVALID_URI);
        }
        if !session.role.may_register(self.node, procedure) {
            return Some(uri::NOT_AUTHORIZED);
        }
        if options.matching.is_some_and(|matching| matching != "exact") {
            return Some(uri::FEATURE_NOT_SUPPORTED);
        }
        if session.registrations.len() >= OF_SESSION_MAX {
            self.refused.of_session += 1;
            return Some(uri::BUSY);
        }
        if self.is_taken(realm, procedure, out) {
            return Some(uri::PROCEDURE_ALREADY_EXISTS);
        }
        if self
            .realms
            .get(realm)
            .is_some_and(|realm| realm.len() >= OF_REALM_MAX)
        {
            self.refused.of_realm += 1;
            return Some(uri::BUSY);
        }
        // Policies for several callees come with shared registrations.
        let is_single = options.invoke.is_none_or(|invoke| invoke == "single");
        (!is_single).then_some(uri::FEATURE_NOT_SUPPORTED)
    }

    /// Registers `procedure` for calls that get a session of their own each. False: it is taken.
    pub fn register_fresh(
        &mut self,
        realm: &str,
        procedure: &str,
        offer: u32,
        out: &mut impl Outbox,
    ) -> bool {
        let is_free = self.realms.contains_key(realm) && !self.is_taken(realm, procedure, out);
        if is_free {
            self.offer(realm, procedure, Callee::Fresh(offer), 0, out);
        }
        is_free
    }

    /// Whether somebody has a procedure. What a session that is gone had of it is taken back first.
    fn is_taken(&mut self, realm: &str, procedure: &str, out: &mut impl Outbox) -> bool {
        let local = self.realms.get(realm).and_then(|realm| realm.local(procedure));
        if let Some(registration) = local {
            let entry = self.registrations.get(&registration);
            if entry.is_some_and(|entry| self.is_there(entry.callee)) {
                return true;
            }
            self.withdraw(registration, out);
        }
        let realm = self.realms.get(realm);
        realm.is_some_and(|realm| self.far(realm, procedure).is_some())
    }

    /// Whether a callee has not left.
    pub(super) fn is_there(&self, callee: Callee) -> bool {
        match callee {
            Callee::Session(session) => self.sessions.get(session).is_some(),
            Callee::Fresh(_) => true,
        }
    }

    /// The first of the other nodes that have a procedure.
    pub(super) fn far(&self, realm: &Realm, procedure: &str) -> Option<LinkKey> {
        realm.far(procedure).find(|link| self.links.get(*link).is_some())
    }

    /// How often a registration was one too many.
    pub fn refused(&self) -> Refused {
        self.refused
    }

    fn offer(&mut self, realm: &str, procedure: &str, callee: Callee, request: u64, out: &mut impl Outbox) {
        let id = self.registration_ids.next_id();
        let Some(realm) = self.realms.get_mut(realm) else {
            return;
        };
        let Some(procedure) = realm.insert(procedure, id) else {
            return;
        };
        let realm = realm.name().clone();
        // What begins with `pipes.` is found without the other nodes.
        let waits = !procedure.starts_with("pipes.") && out.announce(id, &realm, &procedure);
        let entry = Registration {
            realm,
            procedure,
            callee,
            request,
            confirmed: false,
        };
        self.registrations.insert(id, entry);
        if let Callee::Session(session) = callee
            && let Some(session) = self.session_mut(session)
        {
            session.registrations.insert(id);
        }
        if !waits {
            self.confirmed(id, out);
        }
    }

    /// All other nodes know a registration: it takes calls from now on.
    pub fn confirmed(&mut self, registration: u64, out: &mut impl Outbox) {
        let Some(entry) = self.registrations.get_mut(&registration) else {
            return;
        };
        entry.confirmed = true;
        if let Callee::Session(session) = entry.callee {
            let request = entry.request;
            out.to_session(
                session,
                Charge::Nobody,
                &Message::Registered {
                    request,
                    registration,
                },
            );
        }
    }

    /// Another node has what waits to be confirmed: its session is told so.
    pub(super) fn give_way(&mut self, registration: u64, out: &mut impl Outbox) {
        let entry = self.registrations.get(&registration);
        let asked = entry.map(|entry| (entry.callee, entry.request));
        self.withdraw(registration, out);
        if let Some((Callee::Session(from), request)) = asked {
            if let Some(session) = self.session_mut(from) {
                session.registrations.remove(&registration);
            }
            out.refuse(from, (kind::REGISTER, request), uri::PROCEDURE_ALREADY_EXISTS);
        }
    }

    pub(super) fn unregister(
        &mut self,
        from: SessionKey,
        request: u64,
        registration: u64,
        out: &mut impl Outbox,
    ) -> Result<(), Violation> {
        let Some(session) = self.session_mut(from) else {
            return Ok(());
        };
        if session.registrations.remove(&registration) {
            self.withdraw(registration, out);
            out.to_session(from, Charge::Nobody, &Message::Unregistered { request });
        } else {
            out.refuse(from, (kind::UNREGISTER, request), uri::NO_SUCH_REGISTRATION);
        }
        Ok(())
    }

    /// Takes a registration back; calls in progress go on.
    pub(super) fn withdraw(&mut self, registration: u64, out: &mut impl Outbox) {
        let Some(entry) = self.registrations.remove(&registration) else {
            return;
        };
        if let Some(realm) = self.realms.get_mut(&*entry.realm) {
            realm.remove(&entry.procedure);
        }
        if !entry.procedure.starts_with("pipes.") {
            out.withdraw(registration, &entry.realm, &entry.procedure);
        }
    }
}
