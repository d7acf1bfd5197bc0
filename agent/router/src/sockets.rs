//! The sockets of clients and links: who has something to read or to write, and what the ledger asks for.

use std::io;
use std::time::Instant;

use foldhash::{HashSet, HashSetExt};
use mio::event::Event;
use mio::{Registry, Token};
use pipes_wamp::router::{Arena, LinkKey, SessionKey};

use crate::buffers::Buffers;
use crate::clients::connection::{Connection, ConnectionKey};
use crate::clients::internal::{HandOver, Offer, joined};
use crate::clients::out_queue::Released;
use crate::flow_control::class::{Class, Rank};
use crate::flow_control::ledger::{Effect, Ledger};
use crate::flow_control::met::Met;
use crate::flow_control::room::Room;
use crate::flow_control::window::FlowKey;
use crate::peers::link::Link;
use crate::peers::registrations::Registrations;
use crate::token;
use crate::turns::{Ready, Turns};

mod room;

/// The sockets of clients and links, and all that messages to them need.
pub(crate) struct Sockets {
    /// Watches them.
    registry: Registry,
    connections: Arena<Connection>,
    /// The connection of each session, by the session's slot.
    of_sessions: Vec<Option<ConnectionKey>>,
    /// Links, by the dealer's slot.
    links: Vec<Option<Link>>,
    ledger: Ledger,
    room: Room,
    /// How often limits were met.
    pub met: Met,
    /// Connections that wait until users' sessions hold less.
    waiting_for_others: HashSet<ConnectionKey>,
    /// What other nodes know of this one's registrations.
    pub registrations: Registrations,
    buffers: Buffers,
    /// Who takes sessions made for one call.
    offers: Vec<Offer>,
    /// Who has something to read or to understand.
    pub turns: Turns,
    /// Connections with something to write.
    dirty: Vec<ConnectionKey>,
    /// Links with something to write.
    dirty_links: Vec<LinkKey>,
    /// The loop's clock, as it was read last.
    now: Instant,
}

impl Sockets {
    pub fn new(registry: Registry) -> Sockets {
        Sockets {
            registry,
            connections: Arena::default(),
            of_sessions: Vec::new(),
            links: Vec::new(),
            ledger: Ledger::default(),
            room: Room::default(),
            met: Met::default(),
            waiting_for_others: HashSet::new(),
            registrations: Registrations::default(),
            buffers: Buffers::default(),
            offers: Vec::new(),
            turns: Turns::default(),
            dirty: Vec::new(),
            dirty_links: Vec::new(),
            now: Instant::now(),
        }
    }

    /// The loop's clock, as it was read last (`clock`): for what others have to do in time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The clock was read.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Whether anybody has something to write.
    pub fn has_dirty(&self) -> bool {
        !(self.dirty.is_empty() && self.dirty_links.is_empty())
    }

    /// Connections with something to write.
    pub fn take_dirty(&mut self) -> Vec<ConnectionKey> {
        std::mem::take(&mut self.dirty)
    }

    /// Links with something to write.
    pub fn take_dirty_links(&mut self) -> Vec<LinkKey> {
        std::mem::take(&mut self.dirty_links)
    }

    /// Adds an offer of sessions; gives its number.
    pub fn add_offer(&mut self, offer: Offer) -> u32 {
        self.offers.push(offer);
        // Fewer than 2^32 procedures are served.
        (self.offers.len() - 1) as u32
    }

    /// Makes a session for one call of an offer, its connection joined already. `None`: too many wait.
    pub fn open_offer(&mut self, offer: u32, session: SessionKey) -> Option<io::Result<HandOver>> {
        let opened = self.offers.get(offer as usize)?.open()?;
        Some(opened.and_then(|(near, hand_over)| {
            self.add_connection(joined(near, session, Class::Own))?;
            Ok(hand_over)
        }))
    }

    /// Buffers to be used again.
    pub fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    /// The ledger, to be read.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Changes the ledger, and does what follows from that.
    pub fn book<R>(&mut self, change: impl FnOnce(&mut Ledger) -> R) -> R {
        let result = change(&mut self.ledger);
        self.carry_out();
        result
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.ledger.next_effect() {
            match effect {
                Effect::Stop(session) | Effect::Resume(session) => {
                    let may_send = effect == Effect::Resume(session);
                    self.met.not_taken += u64::from(!may_send);
                    let Some(key) = self.connection_of(session) else {
                        continue;
                    };
                    if let Some(connection) = self.connections.get_mut(key) {
                        connection.let_send(may_send);
                    }
                    if may_send {
                        self.queue(key);
                    }
                }
                Effect::GiveBack {
                    link,
                    number,
                    way,
                    bytes,
                } => {
                    if let Some(link) = self.dirty_link(link) {
                        link.give_back(number, way, bytes);
                    }
                }
            }
        }
    }
}

/// Connections of clients.
impl Sockets {
    /// All of them.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionKey, &Connection)> {
        self.connections.iter()
    }

    /// How many there are.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    pub fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        self.connections.get(key)
    }

    pub fn connection_mut(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.connections.get_mut(key)
    }

    /// The session of a connection, once it has one.
    pub fn session_of(&self, key: ConnectionKey) -> Option<SessionKey> {
        self.connections.get(key)?.session()
    }

    /// The connection of a session.
    pub fn connection_of(&self, session: SessionKey) -> Option<ConnectionKey> {
        let key = (*self.of_sessions.get(session.index())?)?;
        (self.session_of(key) == Some(session)).then_some(key)
    }

    /// Takes a connection and watches its socket.
    pub fn add_connection(&mut self, connection: Connection) -> io::Result<ConnectionKey> {
        let session = connection.session();
        let key = self.connections.insert(connection);
        if let Some(connection) = self.connections.get_mut(key)
            && let Err(error) = connection.register(&self.registry, Token(token::connection(key)))
        {
            self.connections.remove(key);
            return Err(error);
        }
        if let Some(session) = session {
            self.bind(session, key);
        }
        Ok(key)
    }

    /// Says whose a connection is.
    pub fn bind(&mut self, session: SessionKey, connection: ConnectionKey) {
        if self.of_sessions.len() <= session.index() {
            self.of_sessions.resize(session.index() + 1, None);
        }
        self.of_sessions[session.index()] = Some(connection);
        let class = self
            .connection(connection)
            .map_or(Class::Users, Connection::class);
        self.ledger.open(session, class);
        self.recount(connection);
    }

    /// A session has left its connection. Its place may be another session's by now.
    pub fn unbind(&mut self, session: SessionKey, connection: ConnectionKey) {
        if self.of_sessions[session.index()] == Some(connection) {
            self.of_sessions[session.index()] = None;
        }
        self.ledger.close(session);
    }

    /// Closes a connection's socket and forgets it.
    pub fn remove_connection(&mut self, key: ConnectionKey) {
        let Some(mut connection) = self.connections.remove(key) else {
            return;
        };
        if let Some(session) = connection.session() {
            self.unbind(session, key);
        }
        self.waiting_for_others.remove(&key);
        connection.shut(&self.registry);
        connection.drop_output(&mut self.buffers);
        while let Some(Released { flow, cost }) = connection.released() {
            self.book(|ledger| ledger.release(flow, cost));
        }
        let (before, after) = connection.recount();
        self.room.change(before, after);
    }

    /// Gives a connection's TCP socket up, which has no session yet and was told nothing.
    pub fn take_tcp(&mut self, key: ConnectionKey) -> Option<std::net::TcpStream> {
        self.connections.remove(key)?.into_tcp(&self.registry)
    }

    /// What the kernel says of a connection's socket.
    pub fn note_connection(&mut self, slot: usize, event: &Event) {
        let Some(key) = self.connections.at(slot) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.note(event) {
            self.mark_dirty(key);
        }
        self.queue(key);
    }

    /// Puts a connection into the list, if it has something to do.
    pub fn queue(&mut self, key: ConnectionKey) {
        if let Some(rank) = self.connections.get_mut(key).and_then(Connection::queue) {
            self.turns.push(rank, Ready::Connection(key));
        }
    }

    /// What was appended to a connection last takes `cost` of `flow`'s window.
    pub fn mark(&mut self, key: ConnectionKey, flow: FlowKey, cost: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.mark(flow, cost);
        }
    }

    /// What was appended to a connection last, `octets` long, is its own to pay.
    pub fn mark_own(&mut self, key: ConnectionKey, octets: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            self.met.own_answers += u64::from(connection.mark_own(octets));
        }
    }

    /// A connection has something to write.
    pub fn mark_dirty(&mut self, key: ConnectionKey) {
        if self.connections.get_mut(key).is_some_and(Connection::mark_dirty) {
            self.dirty.push(key);
        }
    }

    /// Writes what a connection takes, and releases what has left. An error: it takes nothing any more.
    pub fn flush_connection(&mut self, key: ConnectionKey) -> Option<io::Result<()>> {
        let connection = self.connections.get_mut(key)?;
        let was_stopped = !connection.may_go_on();
        let flushed = connection.flush(&mut self.buffers);
        let is_gone = connection.peer_closed_reading();
        if is_gone {
            connection.drop_output(&mut self.buffers);
        }
        while let Some(released) = self.connections.get_mut(key).and_then(Connection::released) {
            self.book(|ledger| ledger.release(released.flow, released.cost));
        }
        self.recount(key);
        if was_stopped || is_gone {
            self.go_on_with_little(key);
            self.queue(key);
        }
        Some(flushed)
    }

    /// Appends what `write` writes, at most about `size` bytes, most of them a copy of `source`. Whoever pays for it is told
    /// next (`mark`, `mark_own`).
    pub fn append(
        &mut self,
        key: ConnectionKey,
        size: usize,
        source: &[u8],
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.append(size, source, &mut self.buffers, write);
            let (before, after) = connection.recount();
            self.room.change(before, after);
            self.mark_dirty(key);
        }
    }
}

/// Links to other nodes.
impl Sockets {
    /// All of them.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().flatten()
    }

    /// A link that is not lost.
    pub fn link_mut(&mut self, key: LinkKey) -> Option<&mut Link> {
        self.links
            .get_mut(key.index())?
            .as_mut()
            .filter(|link| link.key() == key)
    }

    /// The same, with the buffers that its messages lie in.
    pub fn link_with_buffers(&mut self, key: LinkKey) -> Option<(&mut Link, &mut Buffers)> {
        let link = self.links.get_mut(key.index())?.as_mut();
        Some((link.filter(|link| link.key() == key)?, &mut self.buffers))
    }

    /// Takes a link whose socket is not watched yet.
    pub fn add_link(&mut self, mut link: Link) -> io::Result<()> {
        let key = link.key();
        link.register(&self.registry, Token(token::link(key)))?;
        if self.links.len() <= key.index() {
            self.links.resize_with(key.index() + 1, || None);
        }
        self.links[key.index()] = Some(link);
        self.dirty_link(key);
        Ok(())
    }

    /// Closes a link's socket and forgets it.
    pub fn remove_link(&mut self, key: LinkKey) -> Option<Link> {
        let slot = self.links.get_mut(key.index())?;
        let mut link = slot.take_if(|link| link.key() == key)?;
        link.close(&self.registry);
        Some(link)
    }

    /// What the kernel says of a link's socket.
    pub fn note_link(&mut self, slot: usize, event: &Event) {
        let Some(link) = self.links.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let key = link.key();
        if link.note(event) {
            self.dirty_link(key);
        }
        self.queue_link(key);
    }

    /// Puts a link into the list, if it has something to read.
    pub fn queue_link(&mut self, key: LinkKey) {
        if self.link_mut(key).is_some_and(Link::queue) {
            self.turns.push(Rank::First, Ready::Link(key));
        }
    }

    /// A link has something to write; gives it.
    pub fn dirty_link(&mut self, key: LinkKey) -> Option<&mut Link> {
        let link = self.links.get_mut(key.index())?.as_mut();
        let link = link.filter(|link| link.key() == key)?;
        if link.mark_dirty() {
            self.dirty_links.push(key);
        }
        Some(link)
    }

    /// Writes what a link takes.
    pub fn flush_link(&mut self, key: LinkKey) -> io::Result<()> {
        self.link_with_buffers(key)
            .map_or(Ok(()), |(link, buffers)| link.flush(buffers))
    }

    /// When the loop has to look at links and at registrations that other nodes have not confirmed.
    pub fn next_tend(&self) -> Option<Instant> {
        let link = self.links().map(Link::next_tend).min();
        [link, self.registrations.next_overdue()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Tells each link that has room what it does not know yet of the registrations: a batch, so that many of them let
    /// others between.
    pub fn tell_links(&mut self) {
        for slot in 0..self.links.len() {
            let Some(link) = self.links[slot].as_mut() else {
                continue;
            };
            if link.has_room() && self.registrations.has_news(link.key()) {
                let key = link.key();
                link.write_urgent(|urgent| self.registrations.tell(key, urgent));
                self.dirty_link(key);
            }
        }
    }

    /// Whether `tell_links` has something to do.
    pub fn has_news(&self) -> bool {
        let mut links = self.links();
        links.any(|link| link.has_room() && self.registrations.has_news(link.key()))
    }
}
