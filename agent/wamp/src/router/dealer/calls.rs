//! CALL: where it goes, and what must be true for it.

use std::cmp::Reverse;

use super::splice::{self, Splice};
use super::{CALLS_MAX, Call, CallKey, Dealer, End, LinkKey, SessionKey, Violation};
use crate::error::uri;
use crate::message::{CallOptions, InvocationDetails, Message, Payload, kind};
use crate::router::outbox::{Charge, Outbox};
use crate::router::realm::{Behind, Callee};
use crate::router::session::{Features, Identity};
use crate::router::{PeerMessage, Role};
use crate::uri::is_loose;

/// A procedure of one node, to be found without a look-up.
const OF_NODE: &str = "pipes.node.";
/// Answered by the agent that was asked.
const OF_AGENT: &str = "pipes.";

/// Deadlines of calls that are over, which are not looked for.
const DEADLINES_KEPT: usize = 1024;

/// What a new call is made of, wherever it came from.
pub(super) struct Opening<'a> {
    pub caller: End,
    pub realm: &'a str,
    pub procedure: &'a str,
    pub progress: bool,
    pub receive_progress: bool,
    /// The caller's session, if disclosed.
    pub disclosed: Option<u64>,
    /// The token that let the caller in, which the agent's own procedures are told.
    pub token: Option<&'a str>,
    pub grant: Option<&'a str>,
    pub payload: Payload<'a>,
}

impl Dealer {
    pub(super) fn call(
        &mut self,
        from: SessionKey,
        request: u64,
        options: &CallOptions<'_>,
        procedure: &str,
        payload: Payload<'_>,
        out: &mut impl Outbox,
    ) -> Result<(), Violation> {
        let Some(session) = self.sessions.get_mut(from) else {
            return Ok(());
        };
        if let Some(call) = session.calls.get(&request).copied() {
            return self.chunk(call, options.progress, payload, out).map(drop);
        }
        if request <= session.last_call {
            // A chunk for a call that is over: how an early reader ends an early writer.
            return Ok(());
        }
        session.last_call = request;
        if options.progress && !session.features.caller.progressive_invocations {
            return Err(Violation("progressive calls were not announced in HELLO"));
        }
        let refused = if !is_loose(procedure) || options.grant.is_some_and(|grant| !is_loose(grant)) {
            Some(uri::INVALID_URI)
        } else if !session.may_call(procedure) {
            Some(uri::NOT_AUTHORIZED)
        } else if session.calls.len() >= CALLS_MAX {
            Some(uri::BUSY)
        } else {
            None
        };
        if let Some(error) = refused {
            out.refuse(from, (kind::CALL, request), error);
            return Ok(());
        }
        let (realm, token) = (session.realm.clone(), session.token.clone());
        let opening = Opening {
            caller: End::Session(from, request),
            realm: &realm,
            procedure,
            progress: options.progress,
            receive_progress: options.receive_progress,
            disclosed: options.disclose_me.then_some(session.id),
            token: token.as_deref(),
            // From anybody else it is one of the unknown options, which are ignored.
            grant: options.grant.filter(|_| session.role == Role::Agent),
            payload,
        };
        let opened = match self.behind(&realm, procedure) {
            Ok(Behind::Here(registration)) => self.open_here(registration, &opening, out),
            Ok(Behind::Far(link)) => self.open_far(link, &opening, out),
            Err(error) => Err(error),
        };
        match opened {
            Ok(call) if options.timeout_ms > 0 => self.undated.push((options.timeout_ms, call)),
            Ok(_) => {}
            Err(error) => out.refuse(from, (kind::CALL, request), error),
        }
        Ok(())
    }

    /// Begins the time of calls that were received before `now_ms`. A millisecond is added for what was rounded off: no
    /// call is ended early.
    pub(super) fn date_calls(&mut self, now_ms: u64) {
        if self.undated.is_empty() {
            return;
        }
        let begun = now_ms.saturating_add(1);
        let dated = self.undated.drain(..);
        self.deadlines
            .extend(dated.map(|(timeout_ms, call)| Reverse((begun.saturating_add(timeout_ms), call))));
        // Those of calls that are over go when they are the most, so that each push costs little.
        if self.deadlines.len() > DEADLINES_KEPT + 2 * self.calls.len() {
            let calls = &self.calls;
            self.deadlines
                .retain(|Reverse((_, call))| calls.get(*call).is_some());
        }
    }

    /// A further chunk of a call in progress. True: it was passed on, and takes the window it came by.
    pub(super) fn chunk(
        &mut self,
        key: CallKey,
        progress: bool,
        payload: Payload<'_>,
        out: &mut impl Outbox,
    ) -> Result<bool, Violation> {
        let Some(call) = self.calls.get_mut(key) else {
            return Ok(false);
        };
        if !call.more {
            return Err(Violation("a chunk after the final one of a call in progress"));
        }
        call.more = progress;
        if let (Some(splice), true) = (call.spliced_onto, progress)
            && let Some((bytes, keywords)) = splice::split(payload)
        {
            let passed = self.pass_on(splice, bytes, out);
            let kept = self.keep_back(key, keywords, out);
            return Ok(passed || kept);
        }
        let (own, from) = (Charge::up(key, call.caller), call.spliced_from);
        let payer = from.filter(|splice| self.calls.get(splice.payer).is_some());
        let charge = payer.map_or(own, Splice::charge);
        Ok(self.send_chunk(key, charge, progress, payload, out))
    }

    /// Sends a chunk to whoever answers the call. False: it is more than that one takes, and the call has ended.
    pub(super) fn send_chunk(
        &mut self,
        key: CallKey,
        charge: Charge,
        progress: bool,
        payload: Payload<'_>,
        out: &mut impl Outbox,
    ) -> bool {
        let Some(call) = self.calls.get(key) else {
            return false;
        };
        match call.callee {
            End::Session(session, request) => {
                if let Err(error) = out.takes(session, payload.bytes.len(), true) {
                    self.give_up(key, error, out);
                    return false;
                }
                let details = InvocationDetails {
                    progress,
                    receive_progress: call.receive_progress,
                    ..InvocationDetails::default()
                };
                let registration = call.registration;
                out.to_session(
                    session,
                    charge,
                    &Message::Invocation {
                        request,
                        registration,
                        details,
                        payload,
                    },
                );
            }
            End::Link(link, number) => out.to_link(
                link,
                charge,
                &PeerMessage::Chunk {
                    number,
                    progress,
                    payload,
                },
            ),
        }
        true
    }

    /// Who answers `procedure`, or the error that says why nobody does.
    fn behind(&self, realm: &str, procedure: &str) -> Result<Behind, &'static str> {
        let Some(realm) = self.realms.get(realm) else {
            return Err(uri::NO_SUCH_PROCEDURE);
        };
        let here = || {
            realm
                .local(procedure)
                .filter(|id| self.takes_calls(*id))
                .map(Behind::Here)
        };
        if let Some(of_node) = procedure.strip_prefix(OF_NODE) {
            let node = of_node
                .split('.')
                .next()
                .and_then(|node| node.parse::<u64>().ok());
            return match node {
                Some(node) if node != self.node => self
                    .peers
                    .get(&node)
                    .copied()
                    .map(Behind::Far)
                    .ok_or(uri::NETWORK_FAILURE),
                _ => here().ok_or(uri::NO_SUCH_PROCEDURE),
            };
        }
        if procedure.starts_with(OF_AGENT) {
            return here().ok_or(uri::NO_SUCH_PROCEDURE);
        }
        here()
            .or_else(|| self.far(realm, procedure).map(Behind::Far))
            .ok_or(uri::NO_SUCH_PROCEDURE)
    }

    /// This node's registration of a procedure, for a call from another node.
    pub(super) fn registration_here(&self, realm: &str, procedure: &str) -> Option<u64> {
        self.realms
            .get(realm)?
            .local(procedure)
            .filter(|id| self.takes_calls(*id))
    }

    fn takes_calls(&self, registration: u64) -> bool {
        self.registrations
            .get(&registration)
            .is_some_and(|entry| entry.confirmed && self.is_there(entry.callee))
    }

    /// Opens a call to a registration of this node.
    pub(super) fn open_here(
        &mut self,
        registration: u64,
        opening: &Opening<'_>,
        out: &mut impl Outbox,
    ) -> Result<CallKey, &'static str> {
        let callee = self
            .registrations
            .get(&registration)
            .ok_or(uri::NO_SUCH_PROCEDURE)?
            .callee;
        let (session, is_fresh) = match callee {
            Callee::Session(session) => (session, false),
            Callee::Fresh(offer) => (self.join_fresh(offer, opening.realm, out)?, true),
        };
        let opened = self.invoke(session, registration, opening, out);
        if opened.is_err() && is_fresh {
            self.leave(session, out);
        }
        opened
    }

    fn invoke(
        &mut self,
        to: SessionKey,
        registration: u64,
        opening: &Opening<'_>,
        out: &mut impl Outbox,
    ) -> Result<CallKey, &'static str> {
        let session = self.sessions.get_mut(to).ok_or(uri::NO_AVAILABLE_CALLEE)?;
        let features = session.features.callee;
        let token = opening.token.filter(|_| session.role == Role::Agent);
        if opening.progress && !(features.progressive_invocations && features.canceling) {
            return Err(uri::FEATURE_NOT_SUPPORTED);
        }
        out.takes(to, opening.payload.bytes.len(), false)?;
        let request = session.next_invocation();
        // A callee that cannot send progressive results is not asked for them.
        let receive_progress = opening.receive_progress && features.progressive_results;
        let grant = opening.grant.map(Box::<str>::from);
        if let Some(grant) = &grant {
            *session.grants.entry(grant.clone()).or_default() += 1;
        }
        let call = self.calls.insert(Call {
            caller: opening.caller,
            callee: End::Session(to, request),
            registration,
            more: opening.progress,
            receive_progress,
            interrupted: false,
            grant,
            spliced_onto: None,
            spliced_from: None,
        });
        if let Some(session) = self.session_mut(to) {
            session.invocations.insert(request, call);
        }
        self.know_caller(opening.caller, call);
        let details = InvocationDetails {
            progress: opening.progress,
            receive_progress,
            caller: opening.disclosed,
            token,
            ..InvocationDetails::default()
        };
        let charge = Charge::opening(call, opening.caller);
        let payload = opening.payload;
        out.to_session(
            to,
            charge,
            &Message::Invocation {
                request,
                registration,
                details,
                payload,
            },
        );
        Ok(call)
    }

    /// Opens a call to another node.
    fn open_far(
        &mut self,
        link: LinkKey,
        opening: &Opening<'_>,
        out: &mut impl Outbox,
    ) -> Result<CallKey, &'static str> {
        let slot = self.links.get_mut(link).ok_or(uri::NETWORK_FAILURE)?;
        slot.next_number += 1;
        let number = slot.next_number;
        let call = self.calls.insert(Call {
            caller: opening.caller,
            callee: End::Link(link, number),
            registration: 0,
            more: opening.progress,
            receive_progress: opening.receive_progress,
            interrupted: false,
            grant: None,
            spliced_onto: None,
            spliced_from: None,
        });
        slot.ours.insert(number, call);
        self.know_caller(opening.caller, call);
        let message = PeerMessage::Call {
            number,
            realm: opening.realm,
            procedure: opening.procedure,
            progress: opening.progress,
            receive_progress: opening.receive_progress,
            caller: opening.disclosed,
            grant: opening.grant,
            payload: opening.payload,
        };
        let charge = Charge::opening(call, opening.caller);
        out.to_link(link, charge, &message);
        Ok(call)
    }

    fn know_caller(&mut self, caller: End, call: CallKey) {
        match caller {
            End::Session(session, request) => {
                if let Some(session) = self.session_mut(session) {
                    session.calls.insert(request, call);
                }
            }
            End::Link(link, number) => {
                if let Some(link) = self.links.get_mut(link) {
                    link.theirs.insert(number, call);
                }
            }
        }
    }

    /// A session of its own for one call.
    fn join_fresh(
        &mut self,
        offer: u32,
        realm: &str,
        out: &mut impl Outbox,
    ) -> Result<SessionKey, &'static str> {
        let identity = Identity {
            realm: realm.into(),
            role: Role::Agent,
            name: "agent".into(),
            method: "internal",
        };
        let session = self
            .sessions
            .insert(super::Session::new(0, identity, Features::ALL));
        let Some(id) = out.fresh(offer, session) else {
            self.sessions.remove(session);
            return Err(uri::NO_AVAILABLE_CALLEE);
        };
        if let Some(joined) = self.session_mut(session) {
            joined.id = id;
        }
        self.own.insert(id, session);
        Ok(session)
    }
}
