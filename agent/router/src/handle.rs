//! The handle of the router, and what it asks of the router's thread.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use mio::{Poll, Token, Waker};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clients::authentication::Credentials;
use crate::clients::internal::{Offer, OwnSession};
use crate::clients::listener::Listener;
use crate::event_loop::Shard;
use crate::token;
use crate::{Onto, Own, Role, RouterConfig};

/// Commands that wait for the router's thread, which takes them all at its next turn; a further one makes its sender
/// wait for that turn.
const COMMANDS_MAX: usize = 256;

/// What the router's thread is asked to do.
pub(crate) enum Command {
    Listen(Vec<Listener>),
    Attach {
        id: u64,
        realm: String,
        role: Role,
        stream: StdUnixStream,
    },
    LeadOn {
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
    },
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
    pub crossing: usize,
    /// Bytes held of them, heads included.
    pub held: usize,
    /// Bytes that count in sessions' accounts (`flow`, *rest* and *unread*).
    pub in_accounts: usize,
    /// Flows for whose window a session waits.
    pub blocked: usize,
    /// Bytes reserved for messages over 64 KiB on their way.
    pub reserved: usize,
}

/// Handle of the router; clones reach the same one.
#[derive(Clone)]
pub struct Router {
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
    links: watch::Receiver<BTreeSet<u64>>,
}

impl Router {
    /// Starts the router's thread. It ends by [`Router::shutdown`].
    pub fn start(config: RouterConfig) -> io::Result<(Router, JoinHandle<()>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Token(token::WAKER))?);
        let (commands, queue) = sync_channel(COMMANDS_MAX);
        let (linked, links) = watch::channel(BTreeSet::new());
        let mut shard = Shard::new(config.node, config.agent_uid, poll, queue, linked)?;
        shard.listen(config.listeners)?;
        let thread = std::thread::Builder::new()
            .name("router".into())
            .spawn(move || shard.run())?;
        Ok((
            Router {
                commands,
                waker,
                links,
            },
            thread,
        ))
    }

    /// Serves more sockets.
    pub fn listen(&self, listeners: Vec<Listener>) {
        self.send(Command::Listen(listeners));
    }

    /// A session of the agent itself.
    pub fn attach(&self, realm: &str, role: Role) -> io::Result<OwnSession> {
        let (near, far) = StdUnixStream::pair()?;
        far.set_nonblocking(true)?;
        let id = rand::random_range(1..=pipes_wamp::id::MAX);
        self.send(Command::Attach {
            id,
            realm: realm.to_owned(),
            role,
            stream: near,
        });
        let stream = tokio::net::UnixStream::from_std(far)?;
        Ok(OwnSession { stream, id })
    }

    /// From now on the bytes of a call that `from` answers go on without it (`pipes_wamp::router::Onto`). It is done before
    /// anything is read that comes as an answer to what is written after this call.
    pub fn lead_on(&self, from: Own, onto: Onto) {
        self.send(Command::LeadOn { from, onto });
    }

    /// Registers `uri` so that each call to it gets a session of its own: the first message on its stream is the INVOCATION
    /// (request 1). At most `capacity` of them wait; a further call is answered `wamp.error.no_available_callee`. When the
    /// stream is closed the call ends as if its callee had left. To be called within a runtime.
    pub fn serve_calls(&self, realm: &str, uri: &str, capacity: usize) -> mpsc::Receiver<OwnSession> {
        let (sessions, receiver) = mpsc::channel(capacity);
        let offer = Offer {
            sessions,
            runtime: Handle::current(),
        };
        self.send(Command::ServeCalls {
            realm: realm.to_owned(),
            procedure: uri.to_owned(),
            offer,
        });
        receiver
    }

    /// Says which node this is.
    pub fn set_node(&self, node: u64) {
        self.send(Command::SetNode(node));
    }

    /// Says who may speak in realm `pipes` from now on; sessions that are joined stay.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.send(Command::SetCredentials(credentials));
    }

    /// Lets a replica's shim in by this ticket.
    pub fn admit_replica(&self, replica: &str, ticket_sha256: [u8; 32]) {
        self.send(Command::AdmitReplica {
            replica: replica.to_owned(),
            ticket: ticket_sha256,
        });
    }

    /// Lets it in no more, and ends its session.
    pub fn expel_replica(&self, replica: &str) {
        self.send(Command::ExpelReplica {
            replica: replica.to_owned(),
        });
    }

    /// Fires when both procedures of an admitted replica are registered, at once if they are. Dropped without a word when the
    /// replica is expelled or its session ends.
    pub fn replica_ready(&self, replica: &str) -> oneshot::Receiver<()> {
        let (ready, is_ready) = oneshot::channel();
        self.send(Command::ReplicaReady {
            replica: replica.to_owned(),
            ready,
        });
        is_ready
    }

    /// Takes over a connection to another shard, its handshakes done. It replaces an earlier one to that peer.
    pub fn add_link(&self, peer: u64, stream: std::net::TcpStream, tls: rustls::Connection) {
        self.send(Command::AddLink {
            peer,
            stream,
            tls: Box::new(tls),
        });
    }

    /// The peers there is a link to, from when it was added until it is lost.
    pub fn links(&self) -> watch::Receiver<BTreeSet<u64>> {
        self.links.clone()
    }

    /// Counts what there is; nothing comes from a router that has ended.
    pub fn counts(&self) -> oneshot::Receiver<Counts> {
        let (sender, counts) = oneshot::channel();
        self.send(Command::Count(sender));
        counts
    }

    /// Ends every session (`wamp.close.system_shutdown`) and the thread.
    pub fn shutdown(&self) {
        self.send(Command::Shutdown);
    }

    fn send(&self, command: Command) {
        // A router that has ended needs no command, and its sockets tell their owners.
        if self.commands.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "the router cannot be woken");
        }
    }
}
