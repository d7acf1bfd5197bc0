//! What clients send: octets into frames, frames into messages, messages to the dealer.
//!
//! A connection is read once a turn, and so many of its messages are understood (`pace`). Its bytes are understood where
//! they were read; when its turn is over or its windows are used up in the middle, the rest is kept until they are not.

use std::io::{self, Read};

use pipes_wamp::error::uri;
use pipes_wamp::message::Message;
use pipes_wamp::router::{Handshake, Identity, Next, Outcome};
use pipes_wamp::transport::rawsocket::{self, FrameKind, HEAD};
use pipes_wamp::write;
use tracing::debug;

use crate::clients::authentication::{Authenticator, Origin};
use crate::clients::connection::{Connection, ConnectionKey, Phase};
use crate::clients::large::{LARGE, Large};
use crate::clients::listener::Handshaking;
use crate::clients::pace::MESSAGES_A_TURN;
use crate::flow_control::room::LITTLE;
use crate::state::State;

/// How far the bytes of a connection could be understood.
#[derive(Default)]
struct Understood {
    /// So many bytes.
    used: usize,
    /// So many messages.
    messages: usize,
    /// The length of the message that begins behind them.
    begun: usize,
    /// The next message is to be read apart; so long it is.
    large: Option<usize>,
}

impl State {
    /// Serves a connection once.
    pub fn serve(&mut self, key: ConnectionKey) {
        let Some(connection) = self.sockets.connection_mut(key) else {
            return;
        };
        connection.unqueue();
        if !connection.may_go_on() {
            return;
        }
        let is_large = connection.large.is_some();
        let waits_for_much = connection.waiting() > LITTLE;
        if self.sockets.is_short_for(key) && !is_large && waits_for_much {
            return self.sockets.wait_for_others(key);
        }
        if is_large {
            self.read_large(key);
        } else if let Some(messages) = self.understand_kept(key) {
            self.read(key, MESSAGES_A_TURN.saturating_sub(messages));
        }
        self.sockets.recount(key);
        self.sockets.queue(key);
    }

    /// Understands what was kept; gives how many messages that were, if what is left is the beginning of a frame, so that
    /// more is to be read.
    fn understand_kept(&mut self, key: ConnectionKey) -> Option<usize> {
        let connection = self.sockets.connection_mut(key)?;
        if connection.input.rest().is_empty() {
            return Some(0);
        }
        let kept = connection.input.take();
        let understood = self.understand(key, kept.rest(), MESSAGES_A_TURN);
        let large = understood
            .large
            .map(|length| (length, kept.rest()[understood.used..].to_vec()));
        let connection = self.sockets.connection_mut(key)?;
        match large {
            Some((length, begun)) => {
                self.begin_large(key, length, &begun);
                None
            }
            None => {
                connection.input.put_back(kept, understood.used);
                self.hold_begun(key, understood.begun);
                let connection = self.sockets.connection(key)?;
                let is_over = understood.messages >= MESSAGES_A_TURN;
                (connection.may_go_on() && !is_over).then_some(understood.messages)
            }
        }
    }

    /// Holds room for a message that begins in what is kept, if there is.
    fn hold_begun(&mut self, key: ConnectionKey, length: usize) {
        let has_room = length <= LITTLE || !self.sockets.is_short_for(key);
        if let Some(connection) = self
            .sockets
            .connection_mut(key)
            .filter(|_| has_room && length > 0)
        {
            connection.input.hold_whole(HEAD + length);
        }
    }

    fn read(&mut self, key: ConnectionKey, messages_max: usize) {
        if self.is_for_tls(key) {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        self.read_into(key, &mut scratch, messages_max);
        self.scratch = scratch;
    }

    fn read_into(&mut self, key: ConnectionKey, scratch: &mut [u8], messages_max: usize) {
        let is_short = self.sockets.is_short_for(key);
        let Some(connection) = self.sockets.connection_mut(key) else {
            return;
        };
        if !connection.is_readable {
            return;
        }
        let wanted = match connection.input.missing() {
            _ if !is_short => connection.pace.reads(),
            // What was begun is finished.
            missing @ 1.. => missing,
            0 if connection.input.held() > LITTLE => return self.sockets.wait_for_others(key),
            0 => connection.pace.reads().min(LITTLE),
        };
        let kept = connection.input.rest();
        let begun = kept.len();
        scratch[..begun].copy_from_slice(kept);
        let room = &mut scratch[begun..begun + wanted];
        let read = match connection.stream.read(room) {
            Ok(0) => return self.end(key),
            Ok(read) => read,
            Err(error) => return self.read_failed(key, &error),
        };
        // A stream socket that gave less is empty, and says when it is not.
        connection.is_readable = read == wanted || connection.is_at_its_end();
        let bytes = &scratch[..begun + read];
        let understood = self.understand(key, bytes, messages_max);
        if let Some(connection) = self.sockets.connection_mut(key) {
            let Understood {
                used,
                messages,
                begun,
                ..
            } = understood;
            connection
                .pace
                .understood(messages, used, begun, messages >= messages_max);
        }
        let rest = &bytes[understood.used..];
        match understood.large {
            Some(length) => self.begin_large(key, length, rest),
            None => {
                if let Some(connection) = self.sockets.connection_mut(key) {
                    connection.input.replace(rest);
                    self.hold_begun(key, understood.begun);
                }
            }
        }
    }

    /// Hands a connection that begins with TLS to who ends that; ends one that is plain where nothing is said in plain. True:
    /// it is no more.
    fn is_for_tls(&mut self, key: ConnectionKey) -> bool {
        let Some(connection) = self.sockets.connection(key) else {
            return true;
        };
        let Origin::Tcp { loopback } = connection.origin else {
            return false;
        };
        match connection.begins_with_tls() {
            None => return false,
            Some(false) if loopback => return false,
            Some(false) => {
                debug!("a connection from elsewhere begins without TLS");
                self.end(key);
            }
            Some(true) => {
                self.entering.leave(key);
                let stream = self.sockets.take_tcp(key);
                let is_taken =
                    stream.is_some_and(|stream| self.listeners.hand_over(Handshaking { stream, loopback }));
                if !is_taken {
                    debug!("one TLS handshake too many");
                }
            }
        }
        true
    }

    fn read_failed(&mut self, key: ConnectionKey, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                let Some(connection) = self.sockets.connection_mut(key) else {
                    return;
                };
                connection.is_readable = false;
                // All that it said before it read no more is understood.
                if connection.peer_closed_reading() {
                    self.end(key);
                }
            }
            io::ErrorKind::Interrupted => {}
            _ => {
                debug!(%error, "a connection is lost");
                self.end(key);
            }
        }
    }

    /// Understands frame after frame, so many at most, as long as the connection may go on.
    fn understand(&mut self, key: ConnectionKey, bytes: &[u8], messages_max: usize) -> Understood {
        let mut understood = Understood::default();
        while let Some(connection) = self.sockets.connection(key) {
            if !connection.may_go_on() || understood.messages >= messages_max {
                break;
            }
            let rest = &bytes[understood.used..];
            let Some(head) = rest.first_chunk::<HEAD>() else {
                break;
            };
            if matches!(connection.phase, Phase::Octets) {
                self.octets(key, *head);
                understood.used += HEAD;
                continue;
            }
            let (kind, length) = match rawsocket::read_frame_head(*head, connection.takes_up_to()) {
                Ok(head) => head,
                Err(error) => {
                    self.abort(key, uri::PROTOCOL_VIOLATION, &error.to_string());
                    break;
                }
            };
            match rest.get(HEAD..HEAD + length) {
                Some(frame) => {
                    understood.used += HEAD + length;
                    understood.messages += 1;
                    self.frame(key, kind, frame);
                }
                None if length > LARGE => {
                    understood.used += HEAD;
                    understood.large = Some(length);
                    understood.begun = length;
                    break;
                }
                None => {
                    understood.begun = length;
                    break;
                }
            }
        }
        if let Some(connection) = self.sockets.connection_mut(key) {
            connection.messages += understood.messages as u64;
        }
        understood
    }

    fn octets(&mut self, key: ConnectionKey, octets: [u8; HEAD]) {
        match rawsocket::accept(octets) {
            Ok((answer, takes_max)) => {
                if let Some(connection) = self.sockets.connection_mut(key) {
                    connection.set_takes_max(takes_max);
                    connection.phase = Phase::Handshake(Handshake::default(), None);
                }
                self.sockets.send_octets(key, &answer);
            }
            Err(Some(answer)) => {
                self.sockets.send_octets(key, &answer);
                self.close(key);
            }
            // It speaks something else: no answer would be understood.
            Err(None) => self.end(key),
        }
    }

    fn frame(&mut self, key: ConnectionKey, kind: FrameKind, bytes: &[u8]) {
        match kind {
            FrameKind::Message => match Message::parse(bytes) {
                Ok(message) => self.message(key, &message),
                Err(error) => self.abort(key, uri::PROTOCOL_VIOLATION, &error.to_string()),
            },
            FrameKind::Ping => {
                let mut pong = rawsocket::frame_head(FrameKind::Pong, bytes.len()).to_vec();
                pong.extend_from_slice(bytes);
                self.sockets.send_octets(key, &pong);
            }
            // Never asked for, and harmless.
            FrameKind::Pong => {}
        }
    }

    fn message(&mut self, key: ConnectionKey, message: &Message<'_>) {
        let Some(connection) = self.sockets.connection_mut(key) else {
            return;
        };
        match &mut connection.phase {
            Phase::Joined(session) => {
                let session = *session;
                match self.dealer.receive(session, message, &mut self.sockets) {
                    Ok(Next::Stay) if matches!(message, Message::Register { .. }) => self.tell_ready(session),
                    Ok(Next::Stay) => {}
                    Ok(Next::Close) => self.close(key),
                    Err(violation) => self.abort(key, uri::PROTOCOL_VIOLATION, violation.0),
                }
            }
            Phase::Handshake(handshake, asked) => {
                let mut gate = Authenticator {
                    access: &self.access,
                    origin: connection.origin,
                    asked,
                    proved: &mut connection.proved,
                };
                let outcome = handshake.receive(message, &mut gate);
                self.proceed(key, outcome);
            }
            Phase::Octets | Phase::Closing => {}
        }
    }

    fn proceed(&mut self, key: ConnectionKey, outcome: Outcome) {
        match outcome {
            Outcome::Challenge { method, challenge } => {
                let mut extra = Vec::new();
                write::map(&mut extra, usize::from(!challenge.is_empty()));
                if !challenge.is_empty() {
                    write::text(&mut extra, "challenge");
                    write::text(&mut extra, &challenge);
                }
                self.sockets.send(
                    key,
                    &Message::Challenge {
                        method,
                        extra: &extra,
                    },
                );
            }
            Outcome::Welcome(identity, features) => {
                let details = welcome_details(&identity);
                let session = self.join(key, identity, features);
                self.sockets.send(
                    key,
                    &Message::Welcome {
                        session,
                        details: &details,
                    },
                );
            }
            Outcome::Abort { reason, message } => self.abort(key, reason, message),
            Outcome::Closed => self.end(key),
        }
    }

    /// A message that is read apart begins; `begun` is what of it is there.
    fn begin_large(&mut self, key: ConnectionKey, length: usize, begun: &[u8]) {
        let Some(class) = self.sockets.connection(key).map(Connection::class) else {
            return;
        };
        let is_short = self.sockets.is_short_for(key);
        let is_reserved = !is_short && self.large_room.reserve(key, class, length, self.sockets.now());
        let large = is_reserved.then(|| {
            let mut buffer = self.sockets.buffers().large(length);
            buffer[..begun.len()].copy_from_slice(begun);
            let filled = begun.len();
            Large {
                buffer,
                length,
                filled,
                class,
            }
        });
        self.sockets.met.large_waits += u64::from(!is_reserved && !is_short);
        let Some(connection) = self.sockets.connection_mut(key) else {
            return;
        };
        if large.is_some() {
            connection.input.replace(&[]);
            connection.large = large;
        } else {
            // Its head is put back, to be read again when there is room.
            connection.waits_for_room = !is_short;
            let mut again = rawsocket::frame_head(FrameKind::Message, length).to_vec();
            again.extend_from_slice(begun);
            connection.input.replace(&again);
            if is_short {
                self.sockets.wait_for_others(key);
            }
        }
    }

    fn read_large(&mut self, key: ConnectionKey) {
        let Some(connection) = self.sockets.connection_mut(key) else {
            return;
        };
        let is_at_its_end = connection.is_at_its_end();
        let Some(large) = &mut connection.large else {
            return;
        };
        let room = &mut large.buffer[large.filled..large.length];
        let wanted = room.len();
        let read = match connection.stream.read(room) {
            Ok(0) => return self.end(key),
            Ok(read) => read,
            Err(error) => return self.read_failed(key, &error),
        };
        connection.is_readable = read == wanted || is_at_its_end;
        large.filled += read;
        if large.filled < large.length {
            return;
        }
        if let Some(large) = connection.large.take() {
            self.frame(key, FrameKind::Message, &large.buffer[..large.length]);
            self.unreserve(key, large);
        }
    }

    fn unreserve(&mut self, key: ConnectionKey, large: Large) {
        let waiting = self.large_room.release(key, large.class, large.length);
        self.sockets.buffers().give_large(large.buffer);
        for key in waiting {
            if let Some(connection) = self.sockets.connection_mut(key) {
                connection.waits_for_room = false;
                self.sockets.queue(key);
            }
        }
    }

    /// Gives back what a connection had reserved.
    pub fn drop_large(&mut self, key: ConnectionKey) {
        let connection = self.sockets.connection_mut(key);
        if let Some(large) = connection.and_then(|connection| connection.large.take()) {
            self.unreserve(key, large);
        }
    }
}

/// Who the client is, and what this router can do (both spellings of cancelling, as the specification has both).
fn welcome_details(identity: &Identity) -> Vec<u8> {
    const FEATURES: [&str; 5] = [
        "progressive_call_results",
        "progressive_call_invocations",
        "call_canceling",
        "call_cancelling",
        "call_timeout",
    ];
    let mut out = Vec::new();
    write::map(&mut out, 5);
    for (key, value) in [
        ("realm", &*identity.realm),
        ("authid", &*identity.name),
        ("authrole", identity.role.name()),
        ("authmethod", identity.method),
    ] {
        write::text(&mut out, key);
        write::text(&mut out, value);
    }
    write::text(&mut out, "roles");
    write::map(&mut out, 1);
    write::text(&mut out, "dealer");
    write::map(&mut out, 1);
    write::text(&mut out, "features");
    write::map(&mut out, FEATURES.len());
    FEATURES
        .iter()
        .for_each(|feature| write::flag(&mut out, feature, true));
    out
}
