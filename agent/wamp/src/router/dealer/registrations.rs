//! REGISTER and UNREGISTER.

use super::{Dealer, REGISTRATIONS_MAX, SessionKey, Violation};
use crate::error::uri;
use crate::message::{EMPTY_MAP, Message, Payload, RegisterOptions, kind};
use crate::router::outbox::{Charge, Outbox};
use crate::router::realm::{Callee, Registration};
use crate::uri::is_loose;

impl Dealer {
    pub(super) fn register(
        &mut self,
        from: SessionKey,
        request: u64,
        options: &RegisterOptions<'_>,
        procedure: &str,
        out: &mut impl Outbox,
    ) -> Result<(), Violation> {
        let node = self.node;
        let Some(session) = self.session_mut(from) else {
            return Ok(());
        };
        let refused = if !is_loose(procedure) || procedure.starts_with("wamp.") {
            Some(uri::INVALID_URI)
        } else if !session.role.may_register(node, procedure) {
            Some(uri::NOT_AUTHORIZED)
        } else if options.matching.is_some_and(|matching| matching != "exact") {
            Some(uri::FEATURE_NOT_SUPPORTED)
        } else if session.registrations.len() >= REGISTRATIONS_MAX {
            Some(uri::BUSY)
        } else {
            None
        };
        let realm = session.realm.clone();
        let refused = refused.or_else(|| {
            self.is_taken(&realm, procedure)
                .then_some(uri::PROCEDURE_ALREADY_EXISTS)
        });
        // Policies for several callees come with shared registrations.
        let alone = options.invoke.is_none_or(|invoke| invoke == "single");
        if let Some(error) = refused.or((!alone).then_some(uri::FEATURE_NOT_SUPPORTED)) {
            let details = EMPTY_MAP;
            let message = Message::Error {
                kind: kind::REGISTER,
                request,
                details,
                error,
                payload: Payload::EMPTY,
            };
            out.to_session(from, Charge::Nobody, &message);
            return Ok(());
        }
        self.offer(&realm, procedure, Callee::Session(from), request, out);
        Ok(())
    }

    /// Registers `procedure` for calls that get a session of their own each. False: it is taken.
    pub fn register_fresh(
        &mut self,
        realm: &str,
        procedure: &str,
        offer: u32,
        out: &mut impl Outbox,
    ) -> bool {
        let is_free = self.realms.contains_key(realm) && !self.is_taken(realm, procedure);
        if is_free {
            self.offer(realm, procedure, Callee::Fresh(offer), 0, out);
        }
        is_free
    }

    fn is_taken(&self, realm: &str, procedure: &str) -> bool {
        self.realms
            .get(realm)
            .is_some_and(|realm| realm.is_taken(procedure))
    }

    fn offer(&mut self, realm: &str, procedure: &str, callee: Callee, request: u64, out: &mut impl Outbox) {
        let id = self.registration_ids.next_id();
        if let Some(realm) = self.realms.get_mut(realm) {
            realm.insert(procedure, id);
        }
        let entry = Registration {
            realm: realm.into(),
            procedure: procedure.into(),
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
        // What begins with `pipes.` is found without the other nodes.
        if procedure.starts_with("pipes.") || !out.announce(id, realm, procedure) {
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
            let (details, payload) = (EMPTY_MAP, Payload::EMPTY);
            let error = uri::NO_SUCH_REGISTRATION;
            let message = Message::Error {
                kind: kind::UNREGISTER,
                request,
                details,
                error,
                payload,
            };
            out.to_session(from, Charge::Nobody, &message);
        }
        Ok(())
    }

    /// Takes a registration back; calls in progress go on.
    pub(super) fn withdraw(&mut self, registration: u64, out: &mut impl Outbox) {
        let Some(entry) = self.registrations.remove(&registration) else {
            return;
        };
        if let Some(realm) = self.realms.get_mut(&entry.realm) {
            realm.remove(&entry.procedure);
        }
        if !entry.procedure.starts_with("pipes.") {
            out.withdraw(registration, &entry.realm, &entry.procedure);
        }
    }

    /// All that other nodes must know, for a new link: registration, realm and procedure.
    pub fn announced(&self) -> impl Iterator<Item = (u64, &str, &str)> {
        self.registrations
            .iter()
            .filter(|(_, entry)| !entry.procedure.starts_with("pipes."))
            .map(|(id, entry)| (*id, &*entry.realm, &*entry.procedure))
    }
}
