//! A client's connection from its accept to its end.
//!
//! ```text
//! accept -> octets, HELLO ..   within 5 s, or `end`
//! join                         WELCOME: it has a session
//! abort, close                 its session has left; what waits for it is written within 5 s
//! end                          the socket is closed
//! ```

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pipes_wamp::error::uri;
use pipes_wamp::message::{EMPTY_MAP, Message};
use pipes_wamp::router::{Features, Identity};
use pipes_wamp::transport::rawsocket;
use pipes_wamp::write;
use tracing::{debug, warn};

use crate::clients::authentication::{Origin, class};
use crate::clients::connection::{Connection, ConnectionKey, Phase};
use crate::clients::entering::Door;
use crate::clients::stream::Stream;
use crate::state::State;

/// Sessions and connections that have none yet, together.
const CONNECTIONS_MAX: usize = 10_000;
/// Of these beyond, for operators and stages: whoever fills all others shuts none of them out.
const KEPT: usize = 1_000;
/// Accepted in one turn of the loop at one listener, so that a crowd of them does not stop what runs: less than a
/// millisecond's worth.
const ACCEPTED_AT_ONCE: usize = 16;
/// How long a connection may take from its first octet to WELCOME.
const ENTER_WITHIN: Duration = Duration::from_secs(5);
/// How long what waits for a connection that ends may take to be written.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

impl State {
    /// Accepts who waits at the listeners.
    pub fn accept_all(&mut self) {
        for place in self.listeners.take_pending() {
            if self.accept(place) {
                self.listeners.note(place);
            }
        }
    }

    /// Accepts who waits at one. True: there may be more.
    fn accept(&mut self, place: usize) -> bool {
        for _ in 0..ACCEPTED_AT_ONCE {
            match self.listeners.accept(place) {
                None => return false,
                Some(Ok((stream, origin))) => self.enter(stream, origin),
                Some(Err(error)) => match error.kind() {
                    io::ErrorKind::WouldBlock => return false,
                    // Interrupted, or gone before it came in.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        warn!(%error, "no connection can be accepted now");
                        self.listeners.is_stuck(place, self.sockets.now());
                        return false;
                    }
                },
            }
        }
        true
    }

    /// Somebody has come in.
    pub fn enter(&mut self, mut stream: Stream, origin: Origin) {
        let door = door(&stream, origin);
        let most = match door {
            Door::Operators | Door::Stages => CONNECTIONS_MAX + KEPT,
            _ => CONNECTIONS_MAX,
        };
        if self.sockets.connection_count() >= most {
            debug!(?origin, "one connection too many");
            // Four octets into a new socket's buffer; a client that is gone needs none.
            let _ = stream.write(&rawsocket::too_many_connections());
            return;
        }
        match self
            .sockets
            .add_connection(Connection::new(stream, origin, Phase::Octets))
        {
            Ok(key) => {
                self.sockets.queue(key);
                if let Some(oldest) = self.entering.enter(key, door, self.sockets.now()) {
                    debug!(?door, "the oldest connection without a session goes for another");
                    self.end(oldest);
                }
            }
            Err(error) => warn!(%error, "a connection cannot be watched"),
        }
    }

    /// Gives a connection the session it has earned.
    pub fn join(&mut self, key: ConnectionKey, identity: Identity, features: Features) -> u64 {
        let id = rand::random_range(1..=pipes_wamp::id::MAX);
        let class = class(&identity);
        let session = self.dealer.join(id, identity, features);
        if let Some(connection) = self.sockets.connection_mut(key) {
            connection.join(session, class);
            self.entering.leave(key);
        }
        self.sockets.bind(session, key);
        id
    }

    /// Ends a connection with ABORT.
    pub fn abort(&mut self, key: ConnectionKey, reason: &str, sentence: &str) {
        let mut details = Vec::new();
        write::map(&mut details, 1);
        write::text(&mut details, "message");
        write::text(&mut details, sentence);
        debug!(reason, sentence, "a connection is refused");
        let details = &details;
        self.sockets.send(key, &Message::Abort { details, reason });
        if let Some(session) = self.sockets.session_of(key) {
            self.dealer.leave(session, &mut self.sockets);
        }
        self.close(key);
    }

    /// Ends a connection with GOODBYE.
    pub fn leave_and_close(&mut self, key: ConnectionKey, reason: &str) {
        if let Some(session) = self.sockets.session_of(key) {
            self.dealer.leave(session, &mut self.sockets);
            let details = EMPTY_MAP;
            self.sockets.send(key, &Message::Goodbye { details, reason });
        }
        self.close(key);
    }

    /// Ends a connection when what waits for it is written; its session has left.
    pub fn close(&mut self, key: ConnectionKey) {
        let Some(connection) = self.sockets.connection_mut(key) else {
            return;
        };
        self.entering.leave(key);
        let session = connection.session();
        connection.phase = Phase::Closing;
        if let Some(session) = session {
            self.sockets.unbind(session, key);
        }
        self.closing.push_back((self.sockets.now(), key));
        self.sockets.mark_dirty(key);
    }

    /// Ends a connection now.
    pub fn end(&mut self, key: ConnectionKey) {
        let Some(connection) = self.sockets.connection(key) else {
            return;
        };
        self.entering.leave(key);
        if let Some(session) = connection.session() {
            self.leave(session);
        }
        self.drop_large(key);
        self.sockets.remove_connection(key);
    }

    /// Writes what a connection takes.
    pub fn flush_connection(&mut self, key: ConnectionKey) {
        let Some(flushed) = self.sockets.flush_connection(key) else {
            return;
        };
        if let Err(error) = flushed {
            debug!(%error, "a connection takes nothing any more");
            self.closing.push_back((self.sockets.now(), key));
        }
        if self.sockets.connection(key).is_some_and(Connection::is_done) {
            self.end(key);
        }
    }

    /// Ends those that took too long, and tries listeners again that could not accept.
    pub fn end_overdue_connections(&mut self) {
        let now = self.sockets.now();
        let is_over = |queue: &mut VecDeque<(Instant, ConnectionKey)>, limit: Duration| {
            queue.pop_front_if(|(since, _)| now.duration_since(*since) >= limit)
        };
        while let Some((since, key)) = self.entering.first()
            && now.duration_since(since) >= ENTER_WITHIN
        {
            // Also where it is gone already, so that this ends.
            self.entering.leave(key);
            self.end(key);
        }
        while let Some((_, key)) = is_over(&mut self.closing, CLOSE_WITHIN) {
            self.end(key);
        }
        let connections = &self.sockets;
        let comes = |key| Some(connections.connection(key)?.large_comes());
        for key in self.large_room.overdue(now, comes) {
            self.sockets.met.large_ended += 1;
            self.abort(
                key,
                uri::PROTOCOL_VIOLATION,
                "a message over 64 KiB did not come at 64 KiB/s while others waited, or within 5 minutes",
            );
            self.drop_large(key);
        }
        self.end_stuck();
        self.listeners.retry_stuck(now);
    }

    /// Ends users' sessions that hold much and have not moved, where others need their room.
    fn end_stuck(&mut self) {
        let Some(look) = self.looks.due(self.sockets.is_short(), self.sockets.now()) else {
            return;
        };
        let keys: Vec<ConnectionKey> = self.sockets.connections().map(|(key, _)| key).collect();
        let mut is_stuck = |key| {
            let connection = self.sockets.connection_mut(key);
            connection.is_some_and(|connection| connection.look(look))
        };
        let stuck: Vec<_> = keys.into_iter().filter(|key| is_stuck(*key)).collect();
        if !stuck.is_empty() {
            warn!(
                sessions = stuck.len(),
                "users' sessions that take nothing end, for others need their room"
            );
        }
        self.sockets.met.stuck_ended += stuck.len() as u64;
        stuck.into_iter().for_each(|key| self.end(key));
    }

    /// When `end_overdue_connections` has something to do.
    pub fn next_overdue_connection(&self) -> Option<Instant> {
        let of = |queue: &VecDeque<(Instant, ConnectionKey)>, limit| {
            queue.front().map(|(since, _)| *since + limit)
        };
        let all = [
            self.entering.first().map(|(since, _)| since + ENTER_WITHIN),
            of(&self.closing, CLOSE_WITHIN),
            self.large_room.next_overdue(),
            self.looks.next(),
            self.listeners.next_retry(),
        ];
        all.into_iter().flatten().min()
    }
}

fn door(stream: &Stream, origin: Origin) -> Door {
    match (origin, stream) {
        (Origin::Operators { .. }, _) => Door::Operators,
        (Origin::Stages, _) => Door::Stages,
        (Origin::Tls(secured), _) => Door::Tcp(secured.address),
        (Origin::Tcp { .. }, Stream::Tcp(stream)) => {
            let peer = stream.peer_addr();
            // One that is gone already counts with those from nowhere.
            Door::Tcp(peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip()))
        }
        (Origin::Tcp { .. }, Stream::Unix(_)) => Door::Tcp(IpAddr::from([0, 0, 0, 0])),
    }
}
