//! What the dealer sends, on its way: into connections' queues and links' lanes, each message charged to its flow.
//!
//! Costs a message within one shard: one copy of its payload, no allocation, its share of one system call.

use std::collections::VecDeque;
use std::time::Instant;

use mio::Registry;
use pipes_wamp::message::{Message, Payload};
use pipes_wamp::router::{Arena, Call, CallKey, Charge, Crossing, End, LinkKey, Outbox, SessionKey, Way};
use pipes_wamp::transport::rawsocket;

use crate::buffers::Buffers;
use crate::clients::connection::{Connection, ConnectionKey};
use crate::clients::internal::Offer;
use crate::flow_control::window::{Flows, MESSAGE_COST};
use crate::peers::frame;
use crate::peers::link::Link;
use crate::peers::registrations::Directory;
use crate::peers::send_queues::Whose;

/// What a message needs beside its payload, details and URIs.
const HEAD: usize = 256;

/// Who has something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// A client's connection.
    Connection(ConnectionKey),
    /// A link.
    Link(LinkKey),
}

/// All that messages go through. The shard owns it beside the dealer.
pub struct Net {
    /// Watches the sockets.
    pub registry: Registry,
    /// Clients' connections.
    pub connections: Arena<Connection>,
    /// The connection of each session, by the session's slot.
    pub of_sessions: Vec<Option<ConnectionKey>>,
    /// Links, by the dealer's slot.
    pub links: Vec<Option<Link>>,
    /// Windows.
    pub flows: Flows,
    /// What other shards know of this one.
    pub directory: Directory,
    /// Buffers to be used again.
    pub buffers: Buffers,
    /// Who takes sessions made for one call.
    pub offers: Vec<Offer>,
    /// Who has something to read or to understand.
    pub ready: VecDeque<Ready>,
    /// Connections with something to write.
    pub dirty: Vec<ConnectionKey>,
    /// Links with something to write.
    pub dirty_links: Vec<LinkKey>,
    /// The cost of the message that came over a link and is being dealt with, until it is charged to its flow.
    pub arriving: usize,
    /// The time of this turn of the loop.
    pub now: Instant,
}

impl Net {
    /// The connection of a session.
    pub fn connection_of(&self, session: SessionKey) -> Option<ConnectionKey> {
        let key = (*self.of_sessions.get(session.index())?)?;
        let is_its = self.connections.get(key)?.session() == Some(session);
        is_its.then_some(key)
    }

    /// Says whose a connection is.
    pub fn bind(&mut self, session: SessionKey, connection: ConnectionKey) {
        if self.of_sessions.len() <= session.index() {
            self.of_sessions.resize(session.index() + 1, None);
        }
        self.of_sessions[session.index()] = Some(connection);
    }

    /// A link that is not lost.
    pub fn link_mut(&mut self, key: LinkKey) -> Option<&mut Link> {
        self.links
            .get_mut(key.index())?
            .as_mut()
            .filter(|link| link.key == key)
    }

    /// Puts a connection into the list, if it has something to do.
    pub fn queue(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.is_queued
            && connection.has_input()
        {
            connection.is_queued = true;
            self.ready.push_back(Ready::Connection(key));
        }
    }

    /// Puts a link into the list.
    pub fn queue_link(&mut self, key: LinkKey) {
        if let Some(link) = self.link_mut(key)
            && !link.is_queued
            && link.is_readable
        {
            link.is_queued = true;
            self.ready.push_back(Ready::Link(key));
        }
    }

    /// A connection has something to write.
    pub fn dirty(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            self.dirty.push(key);
        }
    }

    /// A link has something to write; gives it.
    pub fn dirty_link(&mut self, key: LinkKey) -> Option<&mut Link> {
        let link = self
            .links
            .get_mut(key.index())?
            .as_mut()
            .filter(|link| link.key == key)?;
        if !link.is_dirty {
            link.is_dirty = true;
            self.dirty_links.push(key);
        }
        Some(link)
    }

    /// Appends a message to a connection.
    pub fn send(&mut self, key: ConnectionKey, message: &Message<'_>) {
        self.send_followed(key, message, &[]);
    }

    /// Appends a message whose payload goes on with `rest`.
    fn send_followed(&mut self, key: ConnectionKey, message: &Message<'_>, rest: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let size = HEAD + size(message) + rest.len();
        let begun = payload(message).bytes;
        let source = if rest.len() > begun.len() { rest } else { begun };
        connection.out.append(size, source, &mut self.buffers, |out| {
            rawsocket::frame(out, |out| {
                message.encode(out);
                out.extend_from_slice(rest);
            });
        });
        self.dirty(key);
    }
}

impl Outbox for Net {
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
        if let Some(flow) = self.charge(charge, cost, None)
            && let Some(connection) = self.connections.get_mut(key)
        {
            connection.out.mark(flow, cost);
        }
    }

    fn to_link(&mut self, link: LinkKey, charge: Charge, crossing: &Crossing<'_>) {
        let (number, way) = (crossing.flow(), frame::way(crossing));
        if self.dirty_link(link).is_none() {
            return;
        }
        let cost = frame::cost(crossing);
        let flow = if cost > 0 {
            self.charge(charge, cost, Some((link, number)))
        } else {
            None
        };
        let whose = match charge {
            Charge::Flow {
                opening: true,
                source: End::Session(session, _),
                ..
            } => Whose::Openings(session),
            _ => Whose::Flow(number, way),
        };
        let Some(link) = self.links.get_mut(link.index()).and_then(Option::as_mut) else {
            return;
        };
        let former = flow.and_then(|flow| link.windows.insert((number, way), flow));
        link.send(whose, crossing, &mut self.buffers);
        if let (Some(flow), Some(former)) = (flow, former) {
            self.succeed(former, flow);
        }
    }

    fn fits(&self, session: SessionKey, payload: usize) -> bool {
        let connection = self
            .connection_of(session)
            .and_then(|key| self.connections.get(key));
        connection.is_none_or(|connection| payload + HEAD <= connection.message_max)
    }

    fn discard(&mut self, call: CallKey, way: Way) {
        let Some(key) = self.flows.find(call, way) else {
            return;
        };
        let Some((link, number)) = self.flows.get(key).and_then(|flow| flow.over) else {
            return;
        };
        let Some(slot) = self.links.get_mut(link.index()).and_then(Option::as_mut) else {
            return;
        };
        if slot.key == link {
            let cost = slot.discard(number, way, &mut self.buffers);
            // Chunks of a call that is fed are another call's to pay.
            let payer = slot.windows.get(&(number, way)).copied();
            self.release_over(payer.unwrap_or(key), cost);
        }
    }

    fn ended(&mut self, key: CallKey, call: &Call) {
        // The rest of a message in pieces will not come, or for nobody.
        for (end, way) in [(call.caller, Way::Up), (call.callee, Way::Down)] {
            if let End::Link(link, number) = end
                && let Some(link) = self.dirty_link(link)
                && let Some(assembly) = link.assemblies.remove(&(number, way))
            {
                link.give_back(number, way, assembly.cost);
            }
        }
        let [up, down] = self.flows.take(key);
        match (up, call.heir()) {
            (Some(flow), Some(heir)) => self.bequeath(flow, heir),
            (Some(flow), None) => self.close(flow, call.caller),
            (None, _) => {}
        }
        if let Some(flow) = down {
            self.close(flow, call.caller);
        }
    }

    fn fresh(&mut self, offer: u32, session: SessionKey) -> Option<u64> {
        self.fresh_session(offer, session)
    }

    fn announce(&mut self, registration: u64, realm: &str, procedure: &str) -> bool {
        let number = self.directory.next_number();
        let change = frame::Frame::Add {
            number,
            realm,
            procedure,
        };
        let links = self.tell_all(&change);
        self.directory.announced(registration, number, links, self.now)
    }

    fn withdraw(&mut self, registration: u64, realm: &str, procedure: &str) {
        let number = self.directory.next_number();
        self.directory.withdrawn(registration);
        self.tell_all(&frame::Frame::Remove {
            number,
            realm,
            procedure,
        });
    }
}

impl Net {
    /// Sends a change of the directory over every link; gives the links.
    fn tell_all(&mut self, change: &frame::Frame<'_>) -> Vec<LinkKey> {
        let keys: Vec<_> = self.links.iter().flatten().map(|link| link.key).collect();
        for key in &keys {
            if let Some(link) = self.dirty_link(*key) {
                link.send_urgent(change);
            }
        }
        keys
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
