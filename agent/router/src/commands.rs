//! What other threads ask of the router's, done between two turns of its loop.
//!
//! All commands that wait are taken before the sockets' events are looked at: who was admitted before it connects is known
//! when it does.

use pipes_wamp::router::{Features, Identity};
use tracing::error;

use crate::clients::authentication::STAGES;
use crate::event_loop::Shard;
use crate::handle::{Command, Counts};

impl Shard {
    /// Does what another thread asks.
    pub fn command(&mut self, command: Command) {
        match command {
            Command::Listen(listeners) => {
                if let Err(error) = self.listen(listeners) {
                    error!(%error, "a socket cannot be served");
                }
            }
            Command::Attach {
                id,
                realm,
                role,
                stream,
            } => {
                let name = role.name().into();
                let identity = Identity {
                    realm: realm.into(),
                    role,
                    name,
                    method: "internal",
                };
                let session = self.dealer.join(id, identity, Features::ALL);
                match self.net.internal(stream, session) {
                    Ok(key) => self.net.queue(key),
                    Err(error) => {
                        error!(%error, "a session of the agent's own cannot be made");
                        self.dealer.leave(session, &mut self.net);
                    }
                }
            }
            Command::ServeCalls {
                realm,
                procedure,
                offer,
            } => {
                // Fewer than 2^32 procedures are served.
                let number = self.net.offers.len() as u32;
                self.net.offers.push(offer);
                if !self
                    .dealer
                    .register_fresh(&realm, &procedure, number, &mut self.net)
                {
                    error!(
                        realm,
                        procedure, "a procedure of the agent's own is registered already"
                    );
                }
            }
            // One of them is over: its session hears of it.
            Command::LeadOn { from, onto } => _ = self.dealer.lead_on(from, onto),
            Command::SetNode(node) => self.dealer.set_node(node),
            Command::SetCredentials(credentials) => self.access.credentials = credentials,
            Command::AdmitReplica { replica, ticket } => {
                self.access.replicas.insert(replica, ticket);
            }
            Command::ExpelReplica { replica } => self.expel(&replica),
            Command::ReplicaReady { replica, ready } => self.unready.entry(replica).or_default().push(ready),
            Command::AddLink { peer, stream, tls } => self.add_link(peer, stream, *tls),
            Command::Count(sender) => {
                // Who asked may be gone.
                let _ = sender.send(self.count());
            }
            Command::Shutdown => self.is_stopping = true,
        }
    }

    /// Tells those who wait for replicas that are there now.
    pub fn tell_ready(&mut self) {
        let dealer = &self.dealer;
        self.unready.retain(|replica, waiting| {
            waiting.retain(|ready| !ready.is_closed());
            if !dealer.has_both_of(replica, STAGES) {
                return !waiting.is_empty();
            }
            for ready in waiting.drain(..) {
                // Gone a moment ago: it needs no word.
                let _ = ready.send(());
            }
            false
        });
    }

    fn expel(&mut self, replica: &str) {
        self.access.replicas.remove(replica);
        self.unready.remove(replica);
        let of = |session| self.dealer.replica(session) == Some(replica);
        let connections = self.net.connections.iter();
        let its = connections
            .filter(|(_, connection)| connection.session().is_some_and(of))
            .map(|(key, _)| key);
        let its: Vec<_> = its.collect();
        for key in its {
            self.leave_and_close(key, "wamp.close.killed");
        }
    }

    fn count(&self) -> Counts {
        let (sessions, calls, registrations) = self.dealer.counts();
        let (flows, held) = self.net.flows.held();
        let connections = || self.net.connections.iter().map(|(_, connection)| connection);
        Counts {
            connections: self.net.connections.len(),
            unauthenticated: self.unauthenticated,
            sessions,
            calls,
            registrations,
            flows,
            crossing: self
                .net
                .links
                .iter()
                .flatten()
                .map(|link| link.windows.len())
                .sum(),
            held,
            in_accounts: connections().map(|its| its.rest + its.unread).sum(),
            blocked: connections().map(|its| its.blocked_flows).sum(),
            reserved: self.large_reserved,
        }
    }
}
