//! A link from the connection it is given to its loss, which ends every call that crossed it.
//!
//! A link is lost by a fault of its peer or its socket (`link`, `receive`), when the peer is silent (`tend_peers`), has
//! a new link, or this node stops.

use std::time::Instant;

use pipes_wamp::router::LinkKey;
use tracing::{info, warn};

use crate::flow_control::ledger::Ledger;
use crate::peers::frame::Frame;
use crate::peers::link::Link;
use crate::peers::liveness::Verdict;
use crate::state::State;

/// Registrations that are confirmed in one turn, so that many of them do not stop what runs.
const CONFIRMED_AT_ONCE: usize = 1024;

impl State {
    /// Takes over a connection to another node.
    pub fn add_link(&mut self, peer: u64, stream: std::net::TcpStream, tls: rustls::Connection) {
        let of_peer = self.sockets.links().find(|link| link.peer() == peer);
        if let Some(old) = of_peer.map(Link::key) {
            self.lose_link(old, "the peer has a new one");
        }
        let key = self.dealer.add_link(peer);
        let linked = Link::new(peer, key, stream, tls, self.sockets.now());
        let linked = linked.and_then(|link| self.sockets.add_link(link));
        if let Err(error) = linked {
            warn!(node = peer, %error, "a link cannot be used");
            return self.dealer.link_lost(key, &mut self.sockets);
        }
        self.sockets.registrations.joined(key);
        info!(node = peer, "linked");
        self.linked.send_modify(|linked| {
            linked.insert(peer);
        });
        self.take_plain(key, |link, plain| link.decrypt(plain));
        self.sockets.queue_link(key);
    }

    /// Ends the link to a peer that is no node any more.
    pub fn drop_link(&mut self, peer: u64) {
        let of_peer = self.sockets.links().find(|link| link.peer() == peer);
        if let Some(key) = of_peer.map(Link::key) {
            self.lose_link(key, "the peer is no node of the cluster any more");
        }
    }

    /// Ends a link and every call that crossed it.
    pub fn lose_link(&mut self, key: LinkKey, why: &str) {
        let Some(link) = self.sockets.remove_link(key) else {
            return;
        };
        info!(node = link.peer(), why, "a link is lost");
        self.dealer.link_lost(key, &mut self.sockets);
        self.sockets.book(|ledger| ledger.link_lost(key));
        self.sockets.registrations.lost(key);
        self.linked.send_modify(|linked| {
            linked.remove(&link.peer());
        });
    }

    /// Says of registrations that the other nodes know them, or are slow to say so.
    pub fn confirm_known(&mut self, now: Instant) {
        for _ in 0..CONFIRMED_AT_ONCE {
            let Some(registration) = self.sockets.registrations.next_known(now) else {
                break;
            };
            self.dealer.confirmed(registration, &mut self.sockets);
        }
    }

    /// Asks the peers whether they live, and loses those that do not answer.
    pub fn tend_peers(&mut self, now: Instant) {
        let links = self.sockets.links();
        let due: Vec<_> = links
            .filter(|link| link.next_tend() <= now)
            .map(Link::key)
            .collect();
        if !due.is_empty() {
            self.sockets.book(Ledger::give_back_lagging);
        }
        for key in due {
            let Some(link) = self.sockets.dirty_link(key) else {
                continue;
            };
            if let Verdict::Lost(why) = link.tend(now) {
                self.lose_link(key, why);
            }
        }
    }

    /// Says goodbye over every link.
    pub fn part_from_peers(&mut self) {
        let keys: Vec<_> = self.sockets.links().map(Link::key).collect();
        for key in &keys {
            if let Some(link) = self.sockets.dirty_link(*key) {
                link.send_urgent(&Frame::Goodbye);
            }
        }
        self.flush();
        keys.into_iter()
            .for_each(|key| self.lose_link(key, "this agent stops"));
    }
}
