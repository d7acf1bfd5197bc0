//! The dealer's outbox: what it sends goes into clients' out-queues and links' send queues, each message charged to its
//! flow.
//!
//! Costs a message within one node: one copy of its payload, no allocation, its share of one system call.

use std::sync::Arc;

use pipes_wamp::error::uri;
use pipes_wamp::message::{Message, Payload};
use pipes_wamp::router::{CallKey, Charge, End, Ended, LinkKey, Outbox, PeerMessage, SessionKey, Way};
use pipes_wamp::transport::rawsocket;

use crate::clients::connection::{ConnectionKey, REST_OF_MESSAGE};
use crate::flow_control::window::MESSAGE_COST;
use crate::peers::frame;
use crate::peers::send_queues::Whose;
use crate::sockets::Sockets;

impl Sockets {
    /// Appends octets to a connection, which pays for them.
    pub fn send_octets(&mut self, key: ConnectionKey, octets: &[u8]) {
        self.append(key, octets.len(), octets, |out| out.extend_from_slice(octets));
        self.mark_own(key, octets.len());
    }

    /// Appends a message to a connection, which pays for it.
    pub fn send(&mut self, key: ConnectionKey, message: &Message<'_>) {
        self.send_followed(key, message, &[]);
        self.mark_own(key, size(message));
    }

    /// Appends a message whose payload goes on with `rest`.
    fn send_followed(&mut self, key: ConnectionKey, message: &Message<'_>, rest: &[u8]) {
        let size = REST_OF_MESSAGE + size(message) + rest.len();
        let begun = payload(message).bytes;
        let source = if rest.len() > begun.len() { rest } else { begun };
        self.append(key, size, source, |out| {
            rawsocket::frame(out, |out| {
                message.encode(out);
                out.extend_from_slice(rest);
            });
        });
    }
}

impl Outbox for Sockets {
    fn to_session_followed(
        &mut self,
        session: SessionKey,
        charge: Charge,
        message: &Message<'_>,
        rest: &[u8],
    ) {
        let Some(key) = self.connection_of(session) else {
            return;
        };
        self.send_followed(key, message, rest);
        let cost = payload(message).bytes.len() + rest.len() + MESSAGE_COST;
        let is_last = matches!(message, Message::Result { progress: false, .. });
        let is_full = self.is_full(key);
        let charged = self.book(|ledger| {
            let flow = ledger.charge(charge, cost, None, is_full)?;
            if is_last {
                ledger.note_last(flow);
            }
            Some(flow)
        });
        match charged {
            Some(flow) => self.mark(key, flow, cost),
            None => self.mark_own(key, size(message)),
        }
    }

    fn to_link(&mut self, link: LinkKey, charge: Charge, message: &PeerMessage<'_>) {
        if self.dirty_link(link).is_none() {
            return;
        }
        let (number, cost) = (message.number(), frame::cost(message));
        if cost > 0 {
            let is_short = self.is_short();
            self.book(|ledger| ledger.charge(charge, cost, Some((link, number)), is_short));
        }
        let whose = match charge {
            Charge::Flow {
                opening: true,
                source: End::Session(session, _),
                ..
            } => Whose::Openings(session),
            _ => Whose::Call(number, frame::way(message)),
        };
        if let Some((link, buffers)) = self.link_with_buffers(link) {
            link.send(whose, message, buffers);
        }
    }

    fn takes(&mut self, session: SessionKey, payload: usize, is_part: bool) -> Result<(), &'static str> {
        let Some(connection) = self.connection_of(session).and_then(|key| self.connection(key)) else {
            return Ok(());
        };
        if !connection.takes(payload) {
            return Err(uri::PAYLOAD_SIZE_EXCEEDED);
        }
        if is_part || self.has_room(connection, payload) {
            Ok(())
        } else {
            self.met.refused += 1;
            Err(uri::BUSY)
        }
    }

    fn discard(&mut self, call: CallKey, way: Way) {
        let Some((key, number)) = self.ledger().over(call, way) else {
            return;
        };
        if let Some((link, buffers)) = self.link_with_buffers(key) {
            let cost = link.discard(number, way, buffers);
            self.book(|ledger| ledger.release_over(key, number, way, cost));
        }
    }

    fn ended(&mut self, ended: Ended) {
        // The rest of a message in pieces will not come, or for nobody.
        for (end, way) in [(ended.caller, Way::Up), (ended.callee, Way::Down)] {
            if let End::Link(link, number) = end
                && let Some(link) = self.dirty_link(link)
            {
                link.drop_pieces((number, way));
            }
        }
        self.book(|ledger| ledger.ended(&ended));
    }

    fn fresh(&mut self, offer: u32, session: SessionKey) -> Option<u64> {
        match self.open_offer(offer, session)? {
            Ok(hand_over) => Some(hand_over.send()),
            Err(error) => {
                tracing::warn!(%error, "no socket pair for a call's own session");
                None
            }
        }
    }

    fn announce(&mut self, registration: u64, realm: &Arc<str>, procedure: &Arc<str>) -> bool {
        let now = self.now();
        self.registrations.announce(registration, realm, procedure, now)
    }

    fn withdraw(&mut self, registration: u64, _: &str, _: &str) {
        self.registrations.withdraw(registration);
    }
}

/// A message's payload.
fn payload<'a>(message: &Message<'a>) -> Payload<'a> {
    match *message {
        Message::Invocation { payload, .. }
        | Message::Result { payload, .. }
        | Message::Error { payload, .. } => payload,
        _ => Payload::EMPTY,
    }
}

/// What of a message may be long.
fn size(message: &Message<'_>) -> usize {
    match *message {
        Message::Error {
            details,
            error,
            payload,
            ..
        } => details.len() + error.len() + payload.bytes.len(),
        Message::Welcome { details, .. }
        | Message::Abort { details, .. }
        | Message::Goodbye { details, .. } => details.len(),
        Message::Invocation { details, payload, .. } => {
            payload.bytes.len() + details.procedure.map_or(0, str::len)
        }
        _ => payload(message).bytes.len(),
    }
}
