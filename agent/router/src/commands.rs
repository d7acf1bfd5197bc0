//! What other threads ask of the router's, done between two turns of its loop.
//!
//! All commands that wait are taken before the sockets' events are looked at: who was admitted before it connects is known
//! when it does.

use std::os::unix::net::UnixStream as StdUnixStream;

use mio::net::UnixStream;
use pipes_wamp::error::uri;
use pipes_wamp::router::{Features, Identity, Onto, Own, Refused, Role, SessionKey};
use tokio::sync::oneshot;
use tracing::error;

use crate::clients::authentication::{Credentials, Origin, STAGES, Secured, class};
use crate::clients::internal::{Offer, joined};
use crate::clients::listener::Listener;
use crate::clients::stream::Stream;
use crate::flow_control::met::Met;
use crate::state::State;

/// What the router's thread is asked to do; the handle's methods say what each means.
pub(crate) enum Command {
    Listen(Vec<Listener>),
    Attach {
        id: u64,
        realm: String,
        role: Role,
        stream: StdUnixStream,
    },
    EnterSecured {
        stream: StdUnixStream,
        secured: Secured,
    },
    Splice {
        from: Own,
        onto: Onto,
    },
    ServeCalls {
        realm: String,
        procedure: String,
        offer: Offer,
    },
    SetNode(u64),
    SetCredentials(Credentials),
    AdmitReplica {
        replica: String,
        ticket: [u8; 32],
    },
    ExpelReplica {
        replica: String,
    },
    ReplicaReady {
        replica: String,
        ready: oneshot::Sender<()>,
    },
    AddLink {
        peer: u64,
        stream: std::net::TcpStream,
        tls: Box<rustls::Connection>,
        taken: oneshot::Sender<()>,
    },
    DropLink(u64),
    Count(oneshot::Sender<Counts>),
    Shutdown,
}

/// What there is in the router at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clients' connections, the agent's own sessions included.
    pub connections: usize,
    /// Those of them that have no session yet.
    pub unauthenticated: usize,
    /// Sessions.
    pub sessions: usize,
    /// Calls in progress that begin, end or do both here.
    pub calls: usize,
    /// Registered procedures.
    pub registrations: usize,
    /// Directions of calls of which something is held, or that are in progress.
    pub flows: usize,
    /// Those of them that leave by a link, once for each direction of a call there.
    pub over_links: usize,
    /// Bytes held of them, heads included.
    pub held: usize,
    /// Bytes that are sessions' send and receive debts.
    pub debts: usize,
    /// Flows for whose window a session waits.
    pub blocked: usize,
    /// Bytes reserved for messages over 64 KiB on their way.
    pub reserved: usize,
    /// How often a registration was one too many of its session or its realm, since the router began.
    pub refused: Refused,
    /// Bytes that are held of and for users' sessions, room of buffers included.
    pub users_held: usize,
    /// How often limits were met.
    pub met: Met,
}

impl State {
    /// Does what another thread asks.
    pub fn command(&mut self, command: Command) {
        match command {
            Command::Listen(listeners) => {
                if let Err(error) = self.listeners.listen(listeners, self.poll.registry()) {
                    error!(%error, "a socket cannot be served");
                }
            }
            Command::Attach {
                id,
                realm,
                role,
                stream,
            } => self.attach(id, realm, role, stream),
            Command::EnterSecured { stream, secured } => {
                let stream = Stream::Unix(UnixStream::from_std(stream));
                self.enter(stream, Origin::Tls(secured));
            }
            Command::ServeCalls {
                realm,
                procedure,
                offer,
            } => {
                let offer = self.sockets.add_offer(offer);
                let dealer = &mut self.dealer;
                if !dealer.register_fresh(&realm, &procedure, offer, &mut self.sockets) {
                    error!(
                        realm,
                        procedure, "a procedure of the agent's own is registered already"
                    );
                }
            }
            // One of them is over: its session hears of it.
            Command::Splice { from, onto } => _ = self.dealer.splice(from, onto),
            Command::SetNode(node) => self.dealer.set_node(node),
            Command::SetCredentials(credentials) => self.set_credentials(credentials),
            Command::AdmitReplica { replica, ticket } => {
                self.access.replicas.insert(replica, ticket);
            }
            Command::ExpelReplica { replica } => self.expel(&replica),
            Command::ReplicaReady { replica, ready } => self.await_replica(replica, ready),
            Command::AddLink {
                peer,
                stream,
                tls,
                taken,
            } => {
                self.add_link(peer, stream, *tls);
                // Who does not wait for it needs no word.
                let _ = taken.send(());
            }
            Command::DropLink(peer) => self.drop_link(peer),
            Command::Count(sender) => {
                // Who asked may be gone.
                let _ = sender.send(self.count());
            }
            Command::Shutdown => self.is_stopping = true,
        }
    }

    /// Sessions whose key or token is gone end with it, and with them what they have under way.
    fn set_credentials(&mut self, credentials: Credentials) {
        self.access.credentials = credentials;
        let credentials = &self.access.credentials;
        let connections = self.sockets.connections();
        let disowned: Vec<_> = connections
            .filter(|(_, connection)| connection.is_disowned(credentials))
            .map(|(key, _)| key)
            .collect();
        for key in disowned {
            self.leave_and_close(key, uri::KILLED);
        }
    }

    fn attach(&mut self, id: u64, realm: String, role: Role, stream: StdUnixStream) {
        let name = role.name().into();
        let identity = Identity {
            realm: realm.into(),
            role,
            name,
            method: "internal",
        };
        let class = class(&identity);
        let session = self.dealer.join(id, identity, Features::ALL);
        match self.sockets.add_connection(joined(stream, session, class)) {
            Ok(key) => self.sockets.queue(key),
            Err(error) => {
                error!(%error, "a session of the agent's own cannot be made");
                self.dealer.leave(session, &mut self.sockets);
            }
        }
    }

    /// Has somebody told when a replica is there.
    fn await_replica(&mut self, replica: String, ready: oneshot::Sender<()>) {
        if self.dealer.has_both_of(&replica, STAGES) {
            // Gone a moment ago: it needs no word.
            let _ = ready.send(());
            return;
        }
        let waiting = self.unready.entry(replica).or_default();
        waiting.retain(|ready| !ready.is_closed());
        waiting.push(ready);
    }

    /// A session has registered something: tells those who wait for its replica, if it is there now.
    pub fn tell_ready(&mut self, session: SessionKey) {
        let replica = self.dealer.replica(session);
        let there = replica.filter(|replica| self.dealer.has_both_of(replica, STAGES));
        let waiting = there.and_then(|replica| self.unready.remove(replica));
        for ready in waiting.unwrap_or_default() {
            // As above.
            let _ = ready.send(());
        }
    }

    fn expel(&mut self, replica: &str) {
        self.access.replicas.remove(replica);
        self.unready.remove(replica);
        let of = |session| self.dealer.replica(session) == Some(replica);
        let connections = self.sockets.connections();
        let its: Vec<_> = connections
            .filter(|(_, connection)| connection.session().is_some_and(of))
            .map(|(key, _)| key)
            .collect();
        for key in its {
            self.leave_and_close(key, uri::KILLED);
        }
    }

    fn count(&self) -> Counts {
        let (sessions, calls, registrations) = self.dealer.counts();
        let totals = self.sockets.ledger().totals();
        Counts {
            connections: self.sockets.connection_count(),
            unauthenticated: self.entering.len(),
            sessions,
            calls,
            registrations,
            flows: totals.flows,
            over_links: totals.over_links,
            held: totals.held,
            debts: totals.debts,
            blocked: totals.waits,
            reserved: self.large_room.reserved(),
            refused: self.dealer.refused(),
            users_held: self.sockets.users_held(),
            met: self.sockets.met,
        }
    }
}
