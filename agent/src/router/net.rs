//! What the dealer sends, on its way: into connections' queues and links' lanes, each message charged to its flow.
//!
//! Costs a message within one shard: one copy of its payload, no allocation, its share of one system call.

use std::collections::VecDeque;
use std::time::Instant;

use mio::Registry;
use pipes_wamp::message::{Message, Payload};
use pipes_wamp::router::{Arena, Call, CallKey, Charge, Crossing, End, LinkKey, Outbox, SessionKey, Way};
use pipes_wamp::transport::rawsocket;

use super::buffers::Buffers;
use super::connection::{Connection, ConnectionKey};
use super::directory::Directory;
use super::flow::{Flow, FlowKey, Flows, MESSAGE_COST};
use super::frame;
use super::lanes::Whose;
use super::link::Link;
use super::offer::Offer;

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
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let size = HEAD + size(message);
        connection.out.append(size, &mut self.buffers, |out| {
            rawsocket::frame(out, |out| message.encode(out))
        });
        self.dirty(key);
    }

    /// Holds a message's cost against its flow; `over` is the link it leaves by.
    fn charge(&mut self, charge: Charge, cost: usize, over: Option<(LinkKey, u64)>) -> Option<FlowKey> {
        let Charge::Flow {
            call,
            way,
            opening,
            source,
        } = charge
        else {
            return None;
        };
        let key = self.flows.of(call, way, source);
        if matches!(source, End::Link(..)) {
            self.arriving = 0;
        }
        if self.flows.charge(key, cost)
            && let Some(connection) = self.source_connection(source)
        {
            connection.blocked_flows += 1;
        }
        let flow = self.flows.get_mut(key)?;
        flow.over = over;
        if opening && let End::Session(session, _) = source {
            flow.in_account += cost;
            flow.account = Some(session);
            if let Some(connection) = self.source_connection(source) {
                connection.rest += cost;
            }
        }
        Some(key)
    }

    fn source_connection(&mut self, source: End) -> Option<&mut Connection> {
        let End::Session(session, _) = source else {
            return None;
        };
        let key = self.connection_of(session)?;
        self.connections.get_mut(key)
    }

    /// Something of a flow was taken, or thrown away: its source may go on.
    pub fn release(&mut self, key: FlowKey, cost: usize) {
        let Some(flow) = self.flows.get(key) else { return };
        let (source, way, account) = (flow.source, flow.way, flow.account);
        let released = self.flows.release(key, cost);
        if released.from_account > 0 {
            self.relieve(account, way, released.from_account);
        }
        if released.is_unblocked {
            self.unblock(source);
        }
        if let End::Link(link, number) = source {
            self.give_back(key, link, number, cost);
        }
        if released.is_gone {
            self.remove_flow(key);
        }
    }

    fn relieve(&mut self, account: Option<SessionKey>, way: Way, cost: usize) {
        let Some(key) = account.and_then(|session| self.connection_of(session)) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(key) {
            let held = if way == Way::Up {
                &mut connection.rest
            } else {
                &mut connection.unread
            };
            *held = held.saturating_sub(cost);
        }
        self.queue(key);
    }

    fn unblock(&mut self, source: End) {
        let End::Session(session, _) = source else { return };
        let Some(key) = self.connection_of(session) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.blocked_flows = connection.blocked_flows.saturating_sub(1);
        }
        self.queue(key);
    }

    /// The far shard gets its window back, in portions that are worth a frame.
    fn give_back(&mut self, key: FlowKey, link: LinkKey, number: u64, cost: usize) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        flow.due += cost;
        let is_worth = flow.due >= Flow::PORTION || flow.is_closed || !flow.has_given;
        if flow.due == 0 || !is_worth {
            return;
        }
        let (due, way) = (std::mem::take(&mut flow.due), flow.way);
        flow.has_given = true;
        if let Some(link) = self.dirty_link(link) {
            link.give_back(number, way, due);
        }
    }

    fn remove_flow(&mut self, key: FlowKey) {
        if let Some(flow) = self.flows.remove(key)
            && let Some((link, number)) = flow.over
            && let Some(link) = self.link_mut(link)
        {
            link.windows.remove(&(number, flow.way));
        }
    }

    /// A call is over: what is still held of its flow goes to its caller's account.
    fn close(&mut self, key: FlowKey, caller: End) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        let (source, way, over) = (flow.source, flow.way, flow.over);
        let was_blocked = std::mem::take(&mut flow.is_blocked);
        flow.is_closed = true;
        let is_caller_here = match caller {
            End::Session(session, _) => {
                flow.account = Some(session);
                true
            }
            End::Link(..) => false,
        };
        // The far shard's caller is charged there.
        let is_done = flow.used == 0 || (over.is_some() && way == Way::Down);
        let moved = if is_done || !is_caller_here {
            0
        } else {
            flow.used - flow.in_account
        };
        flow.in_account += moved;
        if was_blocked {
            self.unblock(source);
        }
        if moved > 0
            && let Some(connection) = self.source_connection(caller)
        {
            *(if way == Way::Up {
                &mut connection.rest
            } else {
                &mut connection.unread
            }) += moved;
        }
        if let End::Link(link, number) = source {
            self.give_back(key, link, number, 0);
        }
        if is_done {
            self.remove_flow(key);
        }
    }

    /// Gives everything back that a lost link's or connection's flows hold.
    pub fn release_all(&mut self, flows: impl IntoIterator<Item = FlowKey>) {
        for key in flows {
            let held = self.flows.get(key).map_or(0, |flow| flow.used);
            self.release(key, held);
        }
    }
}

impl Outbox for Net {
    fn to_session(&mut self, session: SessionKey, charge: Charge, message: &Message<'_>) {
        let Some(key) = self.connection_of(session) else {
            return;
        };
        self.send(key, message);
        let cost = payload(message).bytes.len() + MESSAGE_COST;
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
        if let Some(flow) = flow {
            link.windows.insert((number, way), flow);
        }
        link.send(whose, crossing, &mut self.buffers);
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
            self.release(key, cost);
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
        for flow in self.flows.take(key).into_iter().flatten() {
            self.close(flow, call.caller);
        }
    }

    fn fresh(&mut self, offer: u32, session: SessionKey) -> bool {
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
