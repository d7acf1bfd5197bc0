//! One client's connection: its socket, what was read and not yet understood, what waits to be written.
//!
//! ```text
//! octets (4) -> handshake (HELLO .. WELCOME) -> joined -> closing (what waits is written, nothing more is read)
//! ```
//!
//! A read goes into the loop's scratch buffer and is understood there; only the beginning of a message whose end has not
//! come is copied here. A message over 64 KiB is read into a buffer of its own, its room reserved when its head is
//! known (`large`). So a connection that has nothing half read holds no buffer.

use std::io;
use std::os::fd::OwnedFd;

use mio::event::Event;
use mio::{Registry, Token};
use pipes_wamp::message::MESSAGE_MAX_JOINING;
use pipes_wamp::router::{Handshake, Key, SessionKey};
use pipes_wamp::transport::rawsocket::MESSAGE_MAX;
use pipes_wamp::transport::rawsocket::{self, HEAD};

use crate::buffers::Buffers;
use crate::clients::authentication::{Asked, Credentials, Origin, Proved};
use crate::clients::input::Input;
use crate::clients::large::{Comes, LARGE, Large};
use crate::clients::out_queue::{OutQueue, Released};
use crate::clients::pace::{Pace, READ};
use crate::clients::stream::Stream;
use crate::clients::stuck::Moved;
use crate::flow_control::class::{Class, Rank};
use crate::flow_control::room::LITTLE;
use crate::flow_control::window::FlowKey;

/// Room to read into: a read, and before it the beginning of a frame that is not read apart.
pub(crate) const SCRATCH: usize = LARGE + HEAD + READ;

/// The first octet of a TLS handshake, and of no RawSocket's.
const HANDSHAKE: u8 = 22;

/// What the router itself may owe a connection: answers to PINGs, refusals, all that no call pays for. One that is owed so
/// much, and does not take it, is not read: far more than anybody asks for at once.
const OWN_MAX: usize = 64 << 10;

/// What a message may need beside its payload, details and URIs.
pub(crate) const REST_OF_MESSAGE: usize = 256;

/// Names a connection.
pub(crate) type ConnectionKey = Key<Connection>;

/// How far it is.
pub(crate) enum Phase {
    /// The four octets of RawSocket are awaited.
    Octets,
    /// HELLO or AUTHENTICATE is awaited.
    Handshake(Handshake, Option<Asked>),
    /// It has a session.
    Joined(SessionKey),
    /// What waits is written, then it is closed.
    Closing,
}

/// A client's connection.
pub(crate) struct Connection {
    pub(super) stream: Stream,
    /// How it came in.
    pub(super) origin: Origin,
    /// How far it is.
    pub(super) phase: Phase,
    /// With whom it shares room and turns.
    class: Class,
    /// What it holds, as the room of sessions knows.
    counted: usize,
    /// The room of users' realms is used up: it waits until others, or it itself, hold less.
    waits_for_others: bool,
    /// Messages that it sent.
    pub(super) messages: u64,
    /// What had moved of it when it was looked at last and held much.
    looked_at: Option<Moved>,
    /// How much of it is read and understood at once.
    pub(super) pace: Pace,
    /// What its session stands on, where that may be taken back.
    pub(super) proved: Option<Proved>,
    /// Read and not understood.
    pub(super) input: Input,
    /// A large message on its way.
    pub(super) large: Option<Large>,
    /// The room for large messages is used up: it waits for its turn.
    pub(super) waits_for_room: bool,
    /// The socket may have something to read.
    pub(super) is_readable: bool,
    /// What waits to be written.
    out: OutQueue,
    /// The largest message the client takes.
    takes_max: usize,
    /// The socket takes bytes.
    is_writable: bool,
    /// The other side writes no more: read until the end.
    peer_closed_writing: bool,
    /// The other side reads no more: what is for it is dropped, and it ends when nothing of it is left to be read,
    /// or soon.
    peer_closed_reading: bool,
    /// It is in the list of those that have something to do.
    is_queued: bool,
    /// It is in the list of those that have something to write.
    is_dirty: bool,
    /// The ledger lets its session send.
    may_send: bool,
}

impl Connection {
    /// Whether its session stands on a key or token that is taken back.
    pub fn is_disowned(&self, credentials: &Credentials) -> bool {
        self.session().is_some() && self.proved.is_some_and(|proved| !credentials.has(&proved))
    }

    /// A connection that was just accepted.
    pub fn new(stream: Stream, origin: Origin, phase: Phase) -> Connection {
        Connection {
            stream,
            origin,
            phase,
            // Who comes in by the door of stages or of operators feels nothing of users before it has a session either.
            class: match origin {
                Origin::Operators { .. } => Class::Operators,
                Origin::Stages => Class::Stages,
                Origin::Tcp { .. } | Origin::Tls(_) => Class::Users,
            },
            counted: 0,
            waits_for_others: false,
            messages: 0,
            looked_at: None,
            pace: Pace::default(),
            proved: None,
            input: Input::default(),
            large: None,
            waits_for_room: false,
            is_readable: true,
            out: OutQueue::default(),
            takes_max: MESSAGE_MAX,
            is_writable: true,
            peer_closed_writing: false,
            peer_closed_reading: false,
            is_queued: false,
            is_dirty: false,
            may_send: true,
        }
    }

    /// It has a session.
    pub fn join(&mut self, session: SessionKey, class: Class) {
        self.phase = Phase::Joined(session);
        self.class = class;
    }

    /// When it is served.
    fn rank(&self) -> Rank {
        match (&self.phase, self.class) {
            (Phase::Octets | Phase::Handshake(..), _) => Rank::Entering,
            (_, Class::Users) => Rank::Users,
            _ => Rank::First,
        }
    }

    /// Whether it begins with a TLS handshake; `None` while nobody can say, or where it is no question.
    pub(super) fn begins_with_tls(&self) -> Option<bool> {
        let (Phase::Octets, Stream::Tcp(stream)) = (&self.phase, &self.stream) else {
            return None;
        };
        let mut first = [0];
        let is_there = self.input.rest().is_empty() && matches!(stream.peek(&mut first), Ok(1));
        is_there.then_some(first[0] == HANDSHAKE)
    }

    /// Its socket, watched no more; `None`: it is no TCP's.
    pub fn into_tcp(mut self, registry: &Registry) -> Option<std::net::TcpStream> {
        // Not watched any more is what is wanted.
        let _ = self.stream.deregister(registry);
        match self.stream {
            Stream::Tcp(stream) => Some(std::net::TcpStream::from(OwnedFd::from(stream))),
            Stream::Unix(_) => None,
        }
    }

    /// What the kernel says of its socket. True: it takes bytes again.
    pub fn note(&mut self, event: &Event) -> bool {
        self.peer_closed_writing |= event.is_read_closed() || event.is_error();
        self.is_readable |= event.is_readable() || self.peer_closed_writing;
        // One that is gone takes bytes with an error.
        let takes_bytes = event.is_writable() || event.is_write_closed();
        let is_new = takes_bytes && !self.is_writable;
        self.is_writable |= is_new;
        is_new
    }

    /// What the ledger says of its session.
    pub fn let_send(&mut self, may_send: bool) {
        self.may_send = may_send;
    }

    /// Puts it into the list of those of its rank that have something to do. `None`: it is there, or has nothing.
    pub fn queue(&mut self) -> Option<Rank> {
        if self.is_queued || !self.has_input() {
            return None;
        }
        self.is_queued = true;
        Some(self.rank())
    }

    /// It was taken out of that list.
    pub fn unqueue(&mut self) {
        self.is_queued = false;
    }

    /// Puts it into the list of those that have something to write. False: it is there.
    pub fn mark_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.is_dirty, true)
    }

    /// Appends to what waits to be written.
    pub fn append(
        &mut self,
        size: usize,
        source: &[u8],
        buffers: &mut Buffers,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.out.append(size, source, buffers, write);
    }

    /// What was appended last, `octets` long, is its own to pay. True: it is not read until it has taken some of that.
    pub fn mark_own(&mut self, octets: usize) -> bool {
        let was = self.is_owed_too_much();
        self.out.mark_own(octets);
        !was && self.is_owed_too_much()
    }

    /// What was appended last takes `cost` of `flow`'s window.
    pub fn mark(&mut self, flow: FlowKey, cost: usize) {
        self.out.mark(flow, cost);
    }

    /// Writes what the socket takes; it is no more in the list of those that have something to write. An error: the other
    /// side reads no more. What it said before may still be unread here, its last answer among it: that counts, and its
    /// end is read behind it.
    pub fn flush(&mut self, buffers: &mut Buffers) -> io::Result<()> {
        self.is_dirty = false;
        if !self.is_writable || self.peer_closed_reading {
            return Ok(());
        }
        match self.out.flush(&mut self.stream, buffers) {
            Ok(all) => self.is_writable = all,
            Err(error) => {
                (self.peer_closed_reading, self.is_readable) = (true, true);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The next of what waited that has left or was thrown away.
    pub fn released(&mut self) -> Option<Released> {
        self.out.released()
    }

    /// Throws away what waits to be written.
    pub fn drop_output(&mut self, buffers: &mut Buffers) {
        self.out.clear(buffers);
    }

    /// Whether the other side reads no more.
    pub fn peer_closed_reading(&self) -> bool {
        self.peer_closed_reading
    }

    /// Whether all that it is to get before it is closed has left.
    pub fn is_done(&self) -> bool {
        self.out.is_empty() && matches!(self.phase, Phase::Closing)
    }

    /// The client takes messages up to this length.
    pub(super) fn set_takes_max(&mut self, takes_max: usize) {
        self.takes_max = takes_max;
    }

    /// Whether the client takes a message with so many bytes of payload.
    pub fn takes(&self, payload: usize) -> bool {
        payload + REST_OF_MESSAGE <= self.takes_max
    }

    /// Lets `registry` watch its socket.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.register(registry, token)
    }

    /// Ends both directions.
    pub fn shut(&mut self, registry: &Registry) {
        self.input.replace(&[]);
        // Fails only for a socket that was never watched.
        let _ = self.stream.deregister(registry);
        self.stream.shutdown();
    }

    /// Whether more of it may be read and understood. When its other side has ended, all that is still in the kernel may: it
    /// is bounded, and behind it comes the end that callers and callees must learn of. What it is owed itself bounds it all
    /// the same: when nobody is there to take that, writing fails, and it is dropped.
    pub fn may_go_on(&self) -> bool {
        (self.may_send || self.peer_closed_writing)
            && !self.is_owed_too_much()
            && !self.waits_for_room
            && !self.waits_for_others
            && !matches!(self.phase, Phase::Closing)
    }

    /// What it holds: what waits for its socket, and what was read and is not understood.
    pub fn held(&self) -> usize {
        self.out.held() + self.input.held()
    }

    /// What of it waits for its socket.
    pub fn waiting(&self) -> usize {
        self.out.held()
    }

    /// What counts in the room of users' realms: before, and from now on.
    pub fn recount(&mut self) -> (usize, usize) {
        let counts = if self.class == Class::Users {
            self.held()
        } else {
            0
        };
        (std::mem::replace(&mut self.counted, counts), counts)
    }

    /// Whether it waits until others, or it itself, hold less.
    pub fn waits_for_others(&mut self, waits: bool) {
        self.waits_for_others = waits;
    }

    /// Looks at it. True: it is a user's, held much when it was looked at last, and has not moved.
    pub fn look(&mut self, look: u64) -> bool {
        // Where the router does not read it, it can finish nothing.
        let has_much_begun = self.input.held() > LITTLE && !self.has_frame() && self.may_go_on();
        let holds_much = self.class == Class::Users && (self.out.held() > LITTLE || has_much_begun);
        let (written, messages) = (self.out.written(), self.messages);
        let moved = holds_much.then_some(Moved {
            look,
            written,
            messages,
        });
        let before = std::mem::replace(&mut self.looked_at, moved);
        let both = moved.zip(before);
        both.is_some_and(|(now, before)| now.is_stuck_since(&before))
    }

    /// How a large message comes.
    pub fn large_comes(&self) -> Comes {
        Comes {
            filled: self.large.as_ref().map_or(0, |large| large.filled),
            is_read: self.may_go_on(),
        }
    }

    /// With whom it shares room and turns.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether it has to take answers before it is read. The agent's own sessions do; their other tasks may hold them up.
    fn is_owed_too_much(&self) -> bool {
        self.out.own() >= OWN_MAX && self.class != Class::Own
    }

    /// Whether it is read until a read says that there is no more.
    pub fn is_at_its_end(&self) -> bool {
        self.peer_closed_writing || self.peer_closed_reading
    }

    /// Whether there is something to do for it now.
    pub fn has_input(&self) -> bool {
        self.may_go_on() && (self.is_readable || self.has_frame())
    }

    /// Whether something can be understood of what was kept. The beginning of a frame is no reason to be served: it waits
    /// for the socket.
    fn has_frame(&self) -> bool {
        let rest = self.input.rest();
        let Some(head) = rest.first_chunk::<HEAD>() else {
            return false;
        };
        match rawsocket::read_frame_head(*head, self.takes_up_to()) {
            _ if matches!(self.phase, Phase::Octets) => true,
            // A large one is read apart from its head on.
            Ok((_, length)) => length > LARGE || rest.len() >= HEAD + length,
            Err(_) => true,
        }
    }

    /// Its session, once it has one.
    pub fn session(&self) -> Option<SessionKey> {
        match self.phase {
            Phase::Joined(session) => Some(session),
            _ => None,
        }
    }

    /// The longest message it may send now.
    pub fn takes_up_to(&self) -> usize {
        if self.session().is_some() {
            MESSAGE_MAX
        } else {
            MESSAGE_MAX_JOINING
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::net::UnixStream;
    use pipes_wamp::transport::rawsocket::FrameKind;

    #[test]
    fn the_beginning_of_a_frame_is_nothing_to_do() {
        let (stream, _peer) = UnixStream::pair().unwrap();
        let phase = Phase::Joined(SessionKey::none());
        let mut connection = Connection::new(Stream::Unix(stream), Origin::Stages, phase);
        connection.is_readable = false;
        let mut frame = rawsocket::frame_head(FrameKind::Message, 10).to_vec();
        frame.extend_from_slice(&[0; 10]);
        for (length, has_input) in [(0, false), (3, false), (4, false), (13, false), (14, true)] {
            connection.input.replace(&frame[..length]);
            assert_eq!(connection.has_input(), has_input, "{length}");
        }
        let head = rawsocket::frame_head(FrameKind::Message, LARGE + 1);
        connection.input.replace(&head);
        assert!(connection.has_input(), "a large one is read apart");
    }
}
