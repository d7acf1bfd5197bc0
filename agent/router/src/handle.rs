//! The handle of the router, and what it asks of the router's thread.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use mio::{Poll, Token, Waker};
use pipes_wamp::router::{Onto, Own, Role};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clients::authentication::{Credentials, Secured};
use crate::clients::internal::{Offer, OwnSession};
use crate::clients::listener::Listener;
use crate::commands::{Command, Counts};
use crate::state::State;
use crate::token;

/// How a router starts.
pub struct RouterConfig {
    /// This node's number; 0 until [`Router::set_node`] says it.
    pub node: u64,
    /// Sockets to serve at once; more by [`Router::listen`].
    pub listeners: Vec<Listener>,
    /// The user the agent runs as, who is let in on the operators' socket.
    pub agent_uid: u32,
}

/// Commands that wait for the router's thread, which takes them all at its next turn; a further one makes its sender
/// wait for that turn.
const COMMANDS_MAX: usize = 256;

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
        let mut state = State::new(config.node, config.agent_uid, poll, linked)?;
        state.listeners.listen(config.listeners, state.poll.registry())?;
        let thread = std::thread::Builder::new()
            .name("router".into())
            .spawn(move || state.run(&queue))?;
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

    /// Lets a client in whose TLS somebody else ends; what it says and hears goes through `stream`, which does not block.
    pub fn enter_secured(&self, stream: StdUnixStream, secured: Secured) {
        self.send(Command::EnterSecured { stream, secured });
    }

    /// A session of the agent itself.
    pub fn attach(&self, realm: &str, role: Role) -> io::Result<OwnSession> {
        let (stream, session) = OwnSession::pair()?;
        self.send(Command::Attach {
            id: session.id,
            realm: realm.to_owned(),
            role,
            stream,
        });
        Ok(session)
    }

    /// From now on the bytes of a call that `from` answers go on without it (`pipes_wamp::router::Onto`). It is done before
    /// anything is read that comes as an answer to what is written after this call.
    pub fn splice(&self, from: Own, onto: Onto) {
        self.send(Command::Splice { from, onto });
    }

    /// Registers `uri` so that each call to it gets a session of its own: the first message on its stream is the INVOCATION
    /// (request 1). At most `capacity` of them wait; a further call is answered `wamp.error.no_available_callee`. When the
    /// stream is closed the call ends as if its callee had left. To be called within a runtime.
    pub fn serve_calls(&self, realm: &str, uri: &str, capacity: usize) -> mpsc::Receiver<OwnSession> {
        let (offer, receiver) = Offer::new(capacity);
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

    /// Says who may speak in realm `pipes` from now on; sessions of keys and tokens that are not among them end.
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

    /// Takes over a connection to another node, its handshakes done. It replaces an earlier one to that peer. Fires once it
    /// is in use or was found unfit, however long the thread is busy with others.
    pub fn add_link(
        &self,
        peer: u64,
        stream: std::net::TcpStream,
        tls: rustls::Connection,
    ) -> oneshot::Receiver<()> {
        let (taken, is_taken) = oneshot::channel();
        self.send(Command::AddLink {
            peer,
            stream,
            tls: Box::new(tls),
            taken,
        });
        is_taken
    }

    /// Ends the link to a peer that is no node of the cluster any more, and every call that crosses it.
    pub fn drop_link(&self, peer: u64) {
        self.send(Command::DropLink(peer));
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
