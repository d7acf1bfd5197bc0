//! Which socket an event is of: two bits say the kind, the rest its slot.

use crate::clients::connection::ConnectionKey;
use pipes_wamp::router::LinkKey;

/// Wakes the loop for a command.
pub(crate) const WAKER: usize = 3;

/// What an event is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A client's connection, by its slot.
    Connection(usize),
    /// A link, by its slot.
    Link(usize),
    /// A listener, by its place.
    Listener(usize),
    /// The waker.
    Waker,
}

/// A connection's token.
pub(crate) fn connection(key: ConnectionKey) -> usize {
    key.index() << 2
}

/// A link's token.
pub(crate) fn link(key: LinkKey) -> usize {
    key.index() << 2 | 1
}

/// A listener's token.
pub(crate) fn listener(place: usize) -> usize {
    place << 2 | 2
}

/// What a token says.
pub(crate) fn kind(token: usize) -> Kind {
    match token & 3 {
        0 => Kind::Connection(token >> 2),
        1 => Kind::Link(token >> 2),
        2 => Kind::Listener(token >> 2),
        _ => Kind::Waker,
    }
}
