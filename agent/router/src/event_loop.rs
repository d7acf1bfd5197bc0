//! The router's thread: one loop over its sockets, its commands and its clock.
//!
//! ```text
//! poll -> commands -> who is ready: read once, understand, queue -> what is due -> write what was queued -> poll
//! ```
//!
//! Each turn reads once (256 KiB at most) from everybody who has something, then writes to everybody who got something: one
//! system call each. Nobody is served twice before all others were once.
//!
//! An idle router wakes for nothing; one with links once a second, to ask whether they live.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use pipes_wamp::error::uri;
use pipes_wamp::message::{EMPTY_MAP, Message};
use pipes_wamp::router::{Arena, Dealer, Features, Identity, SessionKey};
use tokio::sync::{oneshot, watch};
use tracing::{debug, error};

use crate::buffers::Buffers;
use crate::clients::authentication::{Access, DEFAULT, PIPES, STAGES};
use crate::clients::connection::{ConnectionKey, Phase};
use crate::clients::listener::Bound;
use crate::clients::read::SCRATCH;
use crate::flow_control::window::Flows;
use crate::handle::Command;
use crate::outbox::{Net, Ready};
use crate::peers::registrations::Directory;
use crate::token::{self, Kind};

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// How long a connection may take from its first octet to WELCOME.
const ENTER_WITHIN: Duration = Duration::from_secs(5);
/// How long what waits for a connection that ends may take to be written.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// After how long a listener that had to stop is tried again.
const KNOCK_AGAIN: Duration = Duration::from_secs(1);

/// The router's thread and all it owns.
pub(crate) struct Shard {
    pub poll: Poll,
    pub dealer: Dealer,
    pub net: Net,
    pub access: Access,
    pub agent_uid: u32,
    pub listeners: Vec<Bound>,
    /// Listeners where somebody may wait.
    pub knocking: Vec<usize>,
    /// Listeners that could not accept.
    pub stuck: Vec<usize>,
    /// Connections without a session: how many, and since when.
    pub unauthenticated: usize,
    pub entering: VecDeque<(Instant, ConnectionKey)>,
    closing: VecDeque<(Instant, ConnectionKey)>,
    /// Connections with a large message on its way; as many as the budget has room for.
    pub large: Vec<ConnectionKey>,
    /// Bytes reserved for them.
    pub large_reserved: usize,
    /// Connections that wait for such a reservation.
    pub wait_for_budget: VecDeque<ConnectionKey>,
    /// Where sockets are read into.
    pub scratch: Vec<u8>,
    /// Where links are decrypted into.
    pub plain: Vec<u8>,
    pub linked: watch::Sender<BTreeSet<u64>>,
    /// Who waits for replicas whose two procedures are not registered yet.
    pub unready: HashMap<String, Vec<oneshot::Sender<()>>>,
    commands: Receiver<Command>,
    begin: Instant,
    pub is_stopping: bool,
}

impl Shard {
    pub fn new(
        node: u64,
        agent_uid: u32,
        poll: Poll,
        commands: Receiver<Command>,
        linked: watch::Sender<BTreeSet<u64>>,
    ) -> io::Result<Shard> {
        let now = Instant::now();
        let net = Net {
            registry: poll.registry().try_clone()?,
            connections: Arena::default(),
            of_sessions: Vec::new(),
            links: Vec::new(),
            flows: Flows::default(),
            directory: Directory::default(),
            buffers: Buffers::default(),
            offers: Vec::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            dirty_links: Vec::new(),
            arriving: 0,
            now,
        };
        Ok(Shard {
            poll,
            dealer: Dealer::new(node, &[DEFAULT, PIPES, STAGES]),
            net,
            access: Access::default(),
            agent_uid,
            listeners: Vec::new(),
            knocking: Vec::new(),
            stuck: Vec::new(),
            unauthenticated: 0,
            entering: VecDeque::new(),
            closing: VecDeque::new(),
            large: Vec::new(),
            large_reserved: 0,
            wait_for_budget: VecDeque::new(),
            scratch: vec![0; SCRATCH],
            plain: Vec::new(),
            linked,
            unready: HashMap::new(),
            commands,
            begin: now,
            is_stopping: false,
        })
    }

    /// Serves until it is told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_stopping {
            if let Err(error) = self.poll.poll(&mut events, self.timeout())
                && error.kind() != io::ErrorKind::Interrupted
            {
                error!(%error, "the router's poll fails: the router ends");
                return;
            }
            self.net.now = Instant::now();
            while let Ok(command) = self.commands.try_recv() {
                self.command(command);
            }
            for event in events.iter() {
                self.note(event);
            }
            self.take_in();
            self.turn();
            self.tick();
            self.tell_ready();
            self.flush();
        }
        self.say_goodbye();
    }

    fn note(&mut self, event: &mio::event::Event) {
        match token::kind(event.token().0) {
            Kind::Connection(slot) => {
                let Some(key) = self.net.connections.at(slot) else {
                    return;
                };
                let Some(connection) = self.net.connections.get_mut(key) else {
                    return;
                };
                connection.is_read_closed |= event.is_read_closed() || event.is_error();
                connection.is_readable |= event.is_readable() || connection.is_read_closed;
                if event.is_writable() && !connection.is_writable {
                    connection.is_writable = true;
                    self.net.dirty(key);
                }
                self.net.queue(key);
            }
            Kind::Link(slot) => {
                let Some(link) = self.net.links.get_mut(slot).and_then(Option::as_mut) else {
                    return;
                };
                let key = link.key;
                link.is_read_closed |= event.is_read_closed() || event.is_error();
                link.is_readable |= event.is_readable() || link.is_read_closed;
                if event.is_writable() {
                    link.writable();
                    self.net.dirty_link(key);
                }
                self.net.queue_link(key);
            }
            Kind::Listener(place) => self.knocking.push(place),
            Kind::Waker => {}
        }
    }

    fn take_in(&mut self) {
        for place in std::mem::take(&mut self.knocking) {
            if self.accept(place) {
                self.knocking.push(place);
            }
        }
    }

    /// Serves once everybody who is ready now.
    fn turn(&mut self) {
        for _ in 0..self.net.ready.len() {
            match self.net.ready.pop_front() {
                Some(Ready::Connection(key)) => self.serve(key),
                Some(Ready::Link(key)) => self.serve_link(key),
                None => break,
            }
        }
    }

    /// Writes until nobody has got something new.
    pub fn flush(&mut self) {
        while !(self.net.dirty.is_empty() && self.net.dirty_links.is_empty()) {
            for key in std::mem::take(&mut self.net.dirty) {
                self.flush_connection(key);
            }
            for key in std::mem::take(&mut self.net.dirty_links) {
                let net = &mut self.net;
                let link = net.links.get_mut(key.index()).and_then(Option::as_mut);
                let Some(link) = link.filter(|link| link.key == key) else {
                    continue;
                };
                link.is_dirty = false;
                if let Err(error) = link.pump(&mut net.buffers) {
                    self.lose_link(key, &error.to_string());
                }
            }
        }
    }

    fn flush_connection(&mut self, key: ConnectionKey) {
        let net = &mut self.net;
        let Some(connection) = net.connections.get_mut(key) else {
            return;
        };
        connection.is_dirty = false;
        if connection.is_writable && !connection.is_deaf {
            match connection.out.flush(&mut connection.stream, &mut net.buffers) {
                Ok(all) => connection.is_writable = all,
                // It reads no more, and what it said before may still be unread here, its last answer among it: that
                // counts, and its end is read behind it.
                Err(error) => {
                    debug!(%error, "a connection takes nothing any more");
                    (connection.is_deaf, connection.is_readable) = (true, true);
                    self.closing.push_back((net.now, key));
                }
            }
        }
        if connection.is_deaf {
            for mark in connection.out.clear(&mut net.buffers) {
                net.release(mark.flow, mark.cost);
            }
            net.queue(key);
        }
        let Some(connection) = net.connections.get(key) else {
            return;
        };
        let is_done = connection.out.is_empty() && matches!(connection.phase, Phase::Closing);
        while let Some(mark) = net
            .connections
            .get_mut(key)
            .and_then(|connection| connection.out.passed())
        {
            net.release(mark.flow, mark.cost);
        }
        if is_done {
            self.end(key);
        }
    }

    /// Gives a connection the session it has earned.
    pub fn join(&mut self, key: ConnectionKey, identity: Identity, features: Features) -> u64 {
        let id = rand::random_range(1..=pipes_wamp::id::MAX);
        let session = self.dealer.join(id, identity, features);
        if let Some(connection) = self.net.connections.get_mut(key) {
            connection.phase = Phase::Joined(session);
            self.unauthenticated -= 1;
        }
        self.net.bind(session, key);
        id
    }

    /// Ends a connection with ABORT.
    pub fn abort(&mut self, key: ConnectionKey, reason: &str, sentence: &str) {
        let mut details = Vec::new();
        pipes_wamp::write::map(&mut details, 1);
        pipes_wamp::write::text(&mut details, "message");
        pipes_wamp::write::text(&mut details, sentence);
        debug!(reason, sentence, "a connection is refused");
        self.net.send(
            key,
            &Message::Abort {
                details: &details,
                reason,
            },
        );
        if let Some(session) = self
            .net
            .connections
            .get(key)
            .and_then(|connection| connection.session())
        {
            self.dealer.leave(session, &mut self.net);
        }
        self.close(key);
    }

    /// Ends a connection when what waits for it is written; its session has left.
    pub fn close(&mut self, key: ConnectionKey) {
        let Some(connection) = self.net.connections.get_mut(key) else {
            return;
        };
        if matches!(connection.phase, Phase::Octets | Phase::Handshake(..)) {
            self.unauthenticated -= 1;
        }
        connection.phase = Phase::Closing;
        self.closing.push_back((self.net.now, key));
        self.net.dirty(key);
    }

    /// Ends a connection now.
    pub fn end(&mut self, key: ConnectionKey) {
        let Some(connection) = self.net.connections.get(key) else {
            return;
        };
        let session = connection.session();
        if matches!(connection.phase, Phase::Octets | Phase::Handshake(..)) {
            self.unauthenticated -= 1;
        }
        if let Some(session) = session {
            self.leave(session);
        }
        self.drop_large(key);
        let Some(mut connection) = self.net.connections.remove(key) else {
            return;
        };
        if let Some(session) = session {
            self.net.of_sessions[session.index()] = None;
        }
        // Fails only for a socket that was never watched.
        let _ = connection.stream.deregister(&self.net.registry);
        connection.stream.shutdown();
        for mark in connection.out.clear(&mut self.net.buffers) {
            self.net.release(mark.flow, mark.cost);
        }
    }

    fn leave(&mut self, session: SessionKey) {
        if let Some(replica) = self.dealer.replica(session) {
            self.unready.remove(replica);
        }
        self.dealer.leave(session, &mut self.net);
    }

    /// Does what time has brought.
    fn tick(&mut self) {
        let now = self.net.now;
        let is_over = |queue: &mut VecDeque<(Instant, ConnectionKey)>, limit: Duration| {
            queue.pop_front_if(|(since, _)| now.duration_since(*since) >= limit)
        };
        while let Some((_, key)) = is_over(&mut self.entering, ENTER_WITHIN) {
            let phase = self.net.connections.get(key).map(|connection| &connection.phase);
            if matches!(phase, Some(Phase::Octets | Phase::Handshake(..))) {
                self.end(key);
            }
        }
        while let Some((_, key)) = is_over(&mut self.closing, CLOSE_WITHIN) {
            self.end(key);
        }
        for key in self.overdue_large(now) {
            self.abort(
                key,
                uri::PROTOCOL_VIOLATION,
                "a message over 64 KiB did not arrive within 30 s",
            );
            self.drop_large(key);
        }
        // The milliseconds that a process may live fit.
        let now_ms = now.duration_since(self.begin).as_millis() as u64;
        self.dealer.tick(now_ms, &mut self.net);
        for registration in self.net.directory.overdue(now) {
            self.dealer.confirmed(registration, &mut self.net);
        }
        self.tend_links();
        self.knocking.append(&mut self.stuck);
    }

    /// How long the loop may wait.
    fn timeout(&self) -> Option<Duration> {
        if !self.net.ready.is_empty() || !self.knocking.is_empty() {
            return Some(Duration::ZERO);
        }
        let of = |queue: &VecDeque<(Instant, ConnectionKey)>, limit| {
            queue.front().map(|(since, _)| *since + limit)
        };
        let deadline = self
            .dealer
            .next_deadline_ms()
            .map(|ms| self.begin + Duration::from_millis(ms));
        let next = [
            of(&self.entering, ENTER_WITHIN),
            of(&self.closing, CLOSE_WITHIN),
            self.next_overdue_large(),
            deadline,
            self.net.directory.next_overdue(),
            self.net.links.iter().flatten().map(|link| link.next_tend()).min(),
            (!self.stuck.is_empty()).then(|| self.net.now + KNOCK_AGAIN),
        ];
        let next = next.into_iter().flatten().min()?;
        // The kernel counts milliseconds: rounded up, so that it is never woken a moment too early.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    pub fn leave_and_close(&mut self, key: ConnectionKey, reason: &str) {
        if let Some(session) = self
            .net
            .connections
            .get(key)
            .and_then(|connection| connection.session())
        {
            self.dealer.leave(session, &mut self.net);
            self.net.send(
                key,
                &Message::Goodbye {
                    details: EMPTY_MAP,
                    reason,
                },
            );
        }
        self.close(key);
    }

    fn say_goodbye(&mut self) {
        let all: Vec<_> = self.net.connections.iter().map(|(key, _)| key).collect();
        all.into_iter()
            .for_each(|key| self.leave_and_close(key, uri::SYSTEM_SHUTDOWN));
        self.part_from_links();
        // What the sockets take at once goes out; nobody is waited for.
        self.flush();
    }
}
