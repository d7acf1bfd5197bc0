//! All that the router's thread owns. What it does with it lies by topic: `event_loop`, `commands`, `clients`, `peers`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::time::Instant;

use mio::Poll;
use pipes_wamp::router::{Dealer, SessionKey};
use tokio::sync::{oneshot, watch};

use crate::clients::LargeRoom;
use crate::clients::authentication::{Access, DEFAULT, PIPES, STAGES};
use crate::clients::connection::{Connection, ConnectionKey, SCRATCH};
use crate::clients::entering::Entering;
use crate::clients::listener::Listeners;
use crate::clients::stuck::Looks;
use crate::clock::Clock;
use crate::sockets::Sockets;

/// The router of one node.
pub(crate) struct State {
    pub poll: Poll,
    pub dealer: Dealer,
    pub sockets: Sockets,
    pub access: Access,
    pub listeners: Listeners,
    /// Connections without a session.
    pub entering: Entering<ConnectionKey>,
    pub closing: VecDeque<(Instant, ConnectionKey)>,
    pub large_room: LargeRoom<Connection>,
    /// Those at sessions that hold room others need.
    pub looks: Looks,
    /// Where sockets are read into.
    pub scratch: Vec<u8>,
    /// Where links are decrypted into.
    pub plain: Vec<u8>,
    /// The peers there is a link to, for whoever follows it.
    pub linked: watch::Sender<BTreeSet<u64>>,
    /// Who waits for replicas whose two procedures are not registered yet.
    pub unready: HashMap<String, Vec<oneshot::Sender<()>>>,
    /// When the dealer's clock began.
    pub begin: Instant,
    /// By which others are judged.
    pub clock: Clock,
    pub is_stopping: bool,
}

impl State {
    pub fn new(
        node: u64,
        agent_uid: u32,
        poll: Poll,
        linked: watch::Sender<BTreeSet<u64>>,
    ) -> io::Result<State> {
        let sockets = Sockets::new(poll.registry().try_clone()?);
        Ok(State {
            begin: sockets.now(),
            clock: Clock::new(sockets.now()),
            poll,
            dealer: Dealer::new(node, &[DEFAULT, PIPES, STAGES]),
            sockets,
            access: Access::default(),
            listeners: Listeners::new(agent_uid),
            entering: Entering::default(),
            closing: VecDeque::new(),
            large_room: LargeRoom::default(),
            looks: Looks::default(),
            scratch: vec![0; SCRATCH],
            plain: Vec::new(),
            linked,
            unready: HashMap::new(),
            is_stopping: false,
        })
    }

    /// Ends a session, and with it its calls and registrations.
    pub fn leave(&mut self, session: SessionKey) {
        if let Some(replica) = self.dealer.replica(session) {
            self.unready.remove(replica);
        }
        self.dealer.leave(session, &mut self.sockets);
    }
}
