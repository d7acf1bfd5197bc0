//! Sessions of the agent itself: both ends of a socket pair in one process, welcomed from the start.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use mio::net::UnixStream;
use pipes_wamp::router::SessionKey;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::clients::authentication::Origin;
use crate::clients::connection::{Connection, Phase};
use crate::clients::stream::Stream;
use crate::flow_control::class::Class;

/// A session of the agent itself, joined already: WAMP messages at once, in RawSocket's frames. It ends with the stream.
pub struct OwnSession {
    /// Its messages.
    pub stream: tokio::net::UnixStream,
    /// Its id.
    pub id: u64,
}

impl OwnSession {
    /// A new one, and the router's half of its pair. To be called within a runtime.
    pub(crate) fn pair() -> io::Result<(StdUnixStream, OwnSession)> {
        let (near, far) = StdUnixStream::pair()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(far)?;
        let id = rand::random_range(1..=pipes_wamp::id::MAX);
        Ok((near, OwnSession { stream, id }))
    }
}

/// The router's half of a pair, joined already as `session`.
pub(crate) fn joined(stream: StdUnixStream, session: SessionKey, class: Class) -> Connection {
    // Where it came in is of no account: nobody asks any more.
    let origin = Origin::Operators { trusted: true };
    let stream = Stream::Unix(UnixStream::from_std(stream));
    let mut connection = Connection::new(stream, origin, Phase::Octets);
    connection.join(session, class);
    connection
}

/// Who takes the sessions that are made for single calls of a procedure.
pub(crate) struct Offer {
    /// Takes them; its capacity bounds how many wait.
    sessions: mpsc::Sender<OwnSession>,
    /// The runtime their sockets belong to.
    runtime: Handle,
}

impl Offer {
    /// An offer of which at most `capacity` sessions wait. To be called within a runtime.
    pub fn new(capacity: usize) -> (Offer, mpsc::Receiver<OwnSession>) {
        let (sessions, receiver) = mpsc::channel(capacity);
        let runtime = Handle::current();
        (Offer { sessions, runtime }, receiver)
    }

    /// Makes a session: the router's half of its pair, and what hands the other one over. `None`: too many wait.
    pub fn open(&self) -> Option<io::Result<(StdUnixStream, HandOver)>> {
        let permit = self.sessions.clone().try_reserve_owned().ok()?;
        let _entered = self.runtime.enter();
        Some(OwnSession::pair().map(|(near, session)| (near, HandOver { permit, session })))
    }
}

/// A session that was made and is not handed over yet.
pub(crate) struct HandOver {
    permit: mpsc::OwnedPermit<OwnSession>,
    session: OwnSession,
}

impl HandOver {
    /// Hands it over; gives its id.
    pub fn send(self) -> u64 {
        let id = self.session.id;
        self.permit.send(self.session);
        id
    }
}
