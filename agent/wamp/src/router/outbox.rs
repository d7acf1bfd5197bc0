//! Where the dealer puts what must go out. The router writes it into sockets, the golden scripts write it down.

use std::sync::Arc;

use super::keys::{CallKey, End, LinkKey, SessionKey};
use super::peer_message::PeerMessage;
use crate::message::{EMPTY_MAP, Message, Payload};

/// Direction of a message of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the caller to the callee.
    Up = 0,
    /// From the callee to the caller.
    Down = 1,
}

/// Whose window a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// Nobody's: small, and bounded by what it answers.
    Nobody,
    /// A call's.
    Flow {
        /// The call.
        call: CallKey,
        /// Which of its two directions.
        way: Way,
        /// The call's first message: it takes the window of what else its session sends.
        opening: bool,
        /// Where the message came from: who must wait when the window is used up.
        source: End,
    },
}

impl Charge {
    /// The first message of a call.
    pub(super) fn opening(call: CallKey, caller: End) -> Charge {
        Charge::Flow {
            call,
            way: Way::Up,
            opening: true,
            source: caller,
        }
    }

    /// What the caller sends afterwards.
    pub(super) fn up(call: CallKey, caller: End) -> Charge {
        Charge::Flow {
            call,
            way: Way::Up,
            opening: false,
            source: caller,
        }
    }

    /// What the callee answers.
    pub(super) fn down(call: CallKey, callee: End) -> Charge {
        Charge::Flow {
            call,
            way: Way::Down,
            opening: false,
            source: callee,
        }
    }
}

/// A call that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub call: CallKey,
    /// Who made it.
    pub caller: End,
    /// Who answered it.
    pub callee: End,
    /// The session that took its bytes as results of another call: what of them it has not taken is its debt now, and no
    /// more this call's caller's.
    pub spliced_to: Option<SessionKey>,
}

/// Takes what the dealer sends. Nothing here can fail: a connection that breaks is told to the dealer afterwards.
pub trait Outbox {
    /// A message to a session of this node.
    fn to_session(&mut self, session: SessionKey, charge: Charge, message: &Message<'_>) {
        self.to_session_followed(session, charge, message, &[]);
    }
    /// The answer to a request, of this kind and number, of which nothing came.
    fn refuse(&mut self, to: SessionKey, (kind, request): (u64, u64), error: &str) {
        let message = Message::Error {
            kind,
            request,
            details: EMPTY_MAP,
            error,
            payload: Payload::EMPTY,
        };
        self.to_session(to, Charge::Nobody, &message);
    }
    /// A message whose payload goes on with `rest`.
    fn to_session_followed(
        &mut self,
        session: SessionKey,
        charge: Charge,
        message: &Message<'_>,
        rest: &[u8],
    );
    /// A message to another node.
    fn to_link(&mut self, link: LinkKey, charge: Charge, message: &PeerMessage<'_>);
    /// Whether the session takes a message with so many bytes of payload; if not, the error that says why. A part of a call
    /// is taken however much waits for the session: its sender is held up.
    fn takes(&mut self, session: SessionKey, payload: usize, is_part: bool) -> Result<(), &'static str>;
    /// Throws away what of a call waits in this direction and has not begun to leave.
    fn discard(&mut self, call: CallKey, way: Way);
    /// A call is over; nothing more comes of it.
    fn ended(&mut self, ended: Ended);
    /// Makes a connection for a session of its own, made for one call, and gives it an id; `None`: the one who takes them
    /// has too many.
    fn fresh(&mut self, offer: u32, session: SessionKey) -> Option<u64>;
    /// Tells the other nodes of a registration. True: [`super::Dealer::confirmed`] will say when they know.
    fn announce(&mut self, registration: u64, realm: &Arc<str>, procedure: &Arc<str>) -> bool;
    /// Tells the other nodes that it is gone.
    fn withdraw(&mut self, registration: u64, realm: &str, procedure: &str);
}
