//! What comes over links, and the life of a link.
//!
//! A link is read once a turn like any connection. Its frames are always taken: the far node keeps the windows, and a
//! link never waits for one session.

use std::time::Instant;

use pipes_wamp::router::{LinkKey, PeerMessage, Way};
use tracing::{info, warn};

use crate::flow_control::window::MESSAGE_COST;
use crate::peers::frame::{self, Frame, LENGTH, Malformed};
use crate::peers::link::Link;
use crate::state::State;

/// Why a link is to be lost.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Violation(#[from] pipes_wamp::router::Violation),
    #[error("the peer stops")]
    Goodbye,
}

impl State {
    /// Takes over a connection to another node.
    pub fn add_link(&mut self, peer: u64, stream: std::net::TcpStream, tls: rustls::Connection) {
        let of_peer = self.sockets.links().find(|link| link.peer() == peer);
        if let Some(old) = of_peer.map(Link::key) {
            self.lose_link(old, "the peer has a new one");
        }
        let key = self.dealer.add_link(peer);
        // All that is registered here, as one change: the far node confirms what is not confirmed yet.
        let change = self.sockets.registrations.next_change();
        let linked = Link::new(peer, key, stream, tls, self.sockets.now()).and_then(|mut link| {
            for (_, realm, procedure) in self.dealer.announced() {
                link.send_urgent(&Frame::Add {
                    change,
                    realm,
                    procedure,
                });
            }
            self.sockets.add_link(link)
        });
        if let Err(error) = linked {
            warn!(node = peer, %error, "a link cannot be used");
            return self.dealer.link_lost(key, &mut self.sockets);
        }
        self.sockets.registrations.joined(key, change);
        info!(node = peer, "linked");
        self.linked.send_modify(|linked| {
            linked.insert(peer);
        });
        self.take_plain(key, |link, plain| link.decrypt(plain));
        self.sockets.queue_link(key);
    }

    /// Ends a link and every call that crossed it.
    pub fn lose_link(&mut self, key: LinkKey, why: &str) {
        let Some(link) = self.sockets.remove_link(key) else {
            return;
        };
        info!(node = link.peer(), why, "a link is lost");
        self.dealer.link_lost(key, &mut self.sockets);
        self.sockets.book(|ledger| ledger.link_lost(key));
        for registration in self.sockets.registrations.lost(key) {
            self.dealer.confirmed(registration, &mut self.sockets);
        }
        self.linked.send_modify(|linked| {
            linked.remove(&link.peer());
        });
    }

    /// Serves a link once.
    pub fn serve_link(&mut self, key: LinkKey) {
        let Some(link) = self.sockets.link_mut(key) else {
            return;
        };
        link.unqueue();
        let mut scratch = std::mem::take(&mut self.scratch);
        self.take_plain(key, |link, plain| link.receive(&mut scratch, plain));
        self.scratch = scratch;
        self.sockets.queue_link(key);
    }

    /// Takes the frames that `receive` gives.
    fn take_plain(
        &mut self,
        key: LinkKey,
        receive: impl FnOnce(&mut Link, &mut Vec<u8>) -> std::io::Result<()>,
    ) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let Some(link) = self.sockets.link_mut(key) else {
            return;
        };
        link.take_leftover(&mut plain);
        let received = receive(link, &mut plain);
        // What came before an error is taken too: answers may be among it.
        let taken = self.take_frames(key, &plain);
        match (&taken, &received) {
            (Err(fault), _) => self.lose_link(key, &fault.to_string()),
            (_, Err(error)) => self.lose_link(key, &error.to_string()),
            (Ok(used), Ok(())) => {
                if let Some(link) = self.sockets.link_mut(key) {
                    link.keep_leftover(&plain[*used..]);
                }
            }
        }
        self.plain = plain;
    }

    fn take_frames(&mut self, key: LinkKey, bytes: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some(length) = frame::length(&bytes[used..])? {
            let Some(framed) = bytes.get(used + LENGTH..used + length) else {
                break;
            };
            self.take_frame(key, framed)?;
            used += length;
        }
        Ok(used)
    }

    fn take_frame(&mut self, key: LinkKey, bytes: &[u8]) -> Result<(), Fault> {
        let frame = Frame::read(bytes)?;
        match frame {
            Frame::Message { message, more: false } => {
                let cost = frame::cost(&message);
                self.pass_on(key, &message, cost)?;
            }
            Frame::Message { message, more: true } => {
                let at = (message.number(), frame::way(&message));
                self.piece(key, at, &frame, bytes)?;
            }
            Frame::Piece {
                number, way, bytes, ..
            } => self.piece(key, (number, way), &frame, bytes)?,
            Frame::Add {
                change,
                realm,
                procedure,
            } => {
                self.dealer.far_registered(key, realm, procedure);
                self.answer(key, &Frame::Confirm { change });
            }
            Frame::Remove {
                change,
                realm,
                procedure,
            } => {
                self.dealer.far_withdrew(key, realm, procedure);
                self.answer(key, &Frame::Confirm { change });
            }
            Frame::Confirm { change } => {
                for registration in self.sockets.registrations.confirmed(key, change) {
                    self.dealer.confirmed(registration, &mut self.sockets);
                }
            }
            Frame::Window { number, way, bytes } => {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                self.sockets
                    .book(|ledger| ledger.release_over(key, number, way, bytes));
            }
            Frame::Ping(number) => self.answer(key, &Frame::Pong(number)),
            Frame::Pong(number) => {
                if let Some(link) = self.sockets.link_mut(key) {
                    link.answered(number);
                }
            }
            Frame::Goodbye => return Err(Fault::Goodbye),
        }
        Ok(())
    }

    /// A message about a call: to the dealer; if nobody takes it, its window goes back at once.
    fn pass_on(&mut self, key: LinkKey, message: &PeerMessage<'_>, cost: usize) -> Result<(), Fault> {
        let (number, way) = (message.number(), frame::way(message));
        if matches!(message, PeerMessage::Cancel { .. })
            && let Some(link) = self.sockets.dirty_link(key)
        {
            link.drop_pieces((number, Way::Up));
        }
        let is_taken = self.dealer.receive_from_peer(key, message, &mut self.sockets);
        if !matches!(is_taken, Ok(true))
            && cost > 0
            && let Some(link) = self.sockets.dirty_link(key)
        {
            link.give_back(number, way, cost);
        }
        is_taken?;
        Ok(())
    }

    /// A frame of a message in pieces. If its call is over nothing is begun, and the pieces behind it find nothing.
    fn piece(&mut self, key: LinkKey, at: (u64, Way), frame: &Frame<'_>, bytes: &[u8]) -> Result<(), Fault> {
        let begins = match frame {
            Frame::Message { message, .. } => Some(self.dealer.expects(key, message)),
            _ => None,
        };
        let Some(link) = self.sockets.dirty_link(key) else {
            return Ok(());
        };
        match begins {
            Some(true) => link.begin_pieces(at),
            Some(false) => link.drop_pieces(at),
            None => {}
        }
        let Some(whole) = link.add_piece(at, frame, bytes)? else {
            return Ok(());
        };
        let Frame::Message { message, .. } = Frame::read(&whole.bytes)? else {
            return Err(Malformed.into());
        };
        debug_assert_eq!(whole.cost, message.payload().bytes.len() + MESSAGE_COST);
        self.pass_on(key, &message, whole.cost)?;
        if let Some(link) = self.sockets.link_mut(key) {
            link.keep(whole.bytes);
        }
        Ok(())
    }

    fn answer(&mut self, key: LinkKey, frame: &Frame<'_>) {
        if let Some(link) = self.sockets.dirty_link(key) {
            link.send_urgent(frame);
        }
    }

    /// Asks the peers whether they live, loses those that do not answer, and waits no longer for those that are slow to
    /// confirm a registration.
    pub fn tend_peers(&mut self, now: Instant) {
        for registration in self.sockets.registrations.overdue(now) {
            self.dealer.confirmed(registration, &mut self.sockets);
        }
        let links = self.sockets.links();
        let due: Vec<_> = links
            .filter(|link| link.next_tend() <= now)
            .map(Link::key)
            .collect();
        for key in due {
            let Some(link) = self.sockets.dirty_link(key) else {
                continue;
            };
            if !link.tend(now) {
                self.lose_link(key, "the peer does not answer");
            }
        }
    }

    /// Says goodbye over every link.
    pub fn part_from_peers(&mut self) {
        let keys: Vec<_> = self.sockets.links().map(Link::key).collect();
        for key in &keys {
            self.answer(*key, &Frame::Goodbye);
        }
        self.flush();
        keys.into_iter()
            .for_each(|key| self.lose_link(key, "this agent stops"));
    }
}
