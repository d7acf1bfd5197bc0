//! Sessions of the agent itself: both ends of a socket pair in one process, welcomed from the start.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use mio::Token;
use mio::net::UnixStream;
use pipes_wamp::router::SessionKey;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::clients::authentication::Door;
use crate::clients::connection::{Connection, ConnectionKey, Phase, Stream};
use crate::outbox::Net;
use crate::token;

/// A session of the agent itself, joined already: WAMP messages at once, in RawSocket's frames. It ends with the stream.
pub struct OwnSession {
    /// Its messages.
    pub stream: tokio::net::UnixStream,
    /// Its id.
    pub id: u64,
}

/// Who takes the sessions that are made for single calls of a procedure.
pub struct Offer {
    /// Takes them; its capacity bounds how many wait.
    pub sessions: mpsc::Sender<OwnSession>,
    /// The runtime their sockets belong to.
    pub runtime: Handle,
}

impl Net {
    /// Makes a connection that is joined already as `session`, over this half of a pair.
    pub fn internal(&mut self, stream: StdUnixStream, session: SessionKey) -> io::Result<ConnectionKey> {
        stream.set_nonblocking(true)?;
        let stream = Stream::Unix(UnixStream::from_std(stream));
        // The door is of no account: it has gone through.
        let door = Door::Operators { trusted: true };
        let key = self
            .connections
            .insert(Connection::new(stream, door, Phase::Joined(session)));
        if let Some(connection) = self.connections.get_mut(key)
            && let Err(error) = connection
                .stream
                .register(&self.registry, Token(token::connection(key)))
        {
            self.connections.remove(key);
            return Err(error);
        }
        self.bind(session, key);
        Ok(key)
    }

    pub(crate) fn fresh_session(&mut self, offer: u32, session: SessionKey) -> Option<u64> {
        let offer = self.offers.get(offer as usize)?;
        let (sessions, runtime) = (offer.sessions.clone(), offer.runtime.clone());
        let permit = sessions.try_reserve().ok()?;
        let made = || {
            let (near, far) = StdUnixStream::pair()?;
            far.set_nonblocking(true)?;
            let _entered = runtime.enter();
            let far = tokio::net::UnixStream::from_std(far)?;
            io::Result::Ok((near, far))
        };
        let made = made().and_then(|(near, far)| self.internal(near, session).map(|_| far));
        match made {
            Ok(stream) => {
                let id = rand::random_range(1..=pipes_wamp::id::MAX);
                permit.send(OwnSession { stream, id });
                Some(id)
            }
            Err(error) => {
                tracing::warn!(%error, "no socket pair for a call's own session");
                None
            }
        }
    }
}
