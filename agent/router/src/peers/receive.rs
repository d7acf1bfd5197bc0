//! What comes over links, and the life of a link in the shard.
//!
//! A link is read once a turn like any connection. Its frames are always taken: the far shard keeps the windows, and a
//! link never waits for one session.

use std::time::Instant;

use mio::Token;
use pipes_wamp::router::{Crossing, LinkKey, Way};
use tracing::{info, warn};

use crate::event_loop::Shard;
use crate::flow_control::window::MESSAGE_COST;
use crate::peers::frame::{self, Frame, LENGTH, Malformed};
use crate::peers::link::Link;
use crate::token;

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

impl Shard {
    /// Takes over a connection to another shard.
    pub fn add_link(&mut self, peer: u64, stream: std::net::TcpStream, tls: rustls::Connection) {
        if let Some(old) = self
            .net
            .links
            .iter()
            .flatten()
            .find(|link| link.peer == peer)
            .map(|link| link.key)
        {
            self.lose_link(old, "the peer has a new one");
        }
        let key = self.dealer.add_link(peer);
        let linked = Link::new(peer, key, stream, tls, self.net.now).and_then(|mut link| {
            link.register(&self.net.registry, Token(token::link(key)))?;
            Ok(link)
        });
        let mut link = match linked {
            Ok(link) => link,
            Err(error) => {
                warn!(node = peer, %error, "a link cannot be used");
                return self.dealer.link_lost(key, &mut self.net);
            }
        };
        // All that is registered here, as one change: the far shard confirms what is not confirmed yet.
        let number = self.net.directory.next_number();
        for (_, realm, procedure) in self.dealer.announced() {
            link.send_urgent(&Frame::Add {
                number,
                realm,
                procedure,
            });
        }
        self.net.directory.joined(key, number);
        if self.net.links.len() <= key.index() {
            self.net.links.resize_with(key.index() + 1, || None);
        }
        self.net.links[key.index()] = Some(link);
        self.net.dirty_link(key);
        info!(node = peer, "linked");
        self.linked.send_modify(|linked| {
            linked.insert(peer);
        });
        self.take_plain(key, |link, plain| link.decrypt(plain));
        self.net.queue_link(key);
    }

    /// Ends a link and every call that crossed it.
    pub fn lose_link(&mut self, key: LinkKey, why: &str) {
        let slot = self.net.links.get_mut(key.index());
        let Some(mut link) = slot.and_then(|slot| slot.take_if(|link| link.key == key)) else {
            return;
        };
        info!(node = link.peer, why, "a link is lost");
        link.close(&self.net.registry);
        self.dealer.link_lost(key, &mut self.net);
        self.net.release_all(link.windows.into_values());
        for registration in self.net.directory.lost(key) {
            self.dealer.confirmed(registration, &mut self.net);
        }
        self.linked.send_modify(|linked| {
            linked.remove(&link.peer);
        });
    }

    /// Serves a link once.
    pub fn serve_link(&mut self, key: LinkKey) {
        let Some(link) = self.net.link_mut(key) else {
            return;
        };
        link.is_queued = false;
        let mut scratch = std::mem::take(&mut self.scratch);
        self.take_plain(key, |link, plain| link.receive(&mut scratch, plain));
        self.scratch = scratch;
        self.net.queue_link(key);
    }

    /// Takes the frames that `receive` gives.
    fn take_plain(
        &mut self,
        key: LinkKey,
        receive: impl FnOnce(&mut Link, &mut Vec<u8>) -> std::io::Result<()>,
    ) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let Some(link) = self.net.link_mut(key) else {
            return;
        };
        plain.append(&mut link.leftover);
        let received = receive(link, &mut plain);
        // What came before an error is taken too: answers may be among it.
        let taken = self.take_frames(key, &plain);
        match (&taken, &received) {
            (Err(fault), _) => self.lose_link(key, &fault.to_string()),
            (_, Err(error)) => self.lose_link(key, &error.to_string()),
            (Ok(used), Ok(())) => {
                if let Some(link) = self.net.link_mut(key) {
                    link.leftover.extend_from_slice(&plain[*used..]);
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
            Frame::Crossing {
                crossing,
                more: false,
            } => {
                let cost = frame::cost(&crossing);
                self.cross(key, &crossing, cost)?;
            }
            Frame::Crossing { crossing, more: true } => self.begin(key, &crossing, &frame, bytes)?,
            Frame::Piece { flow, way, bytes, .. } => self.piece(key, (flow, way), &frame, bytes)?,
            Frame::Add {
                number,
                realm,
                procedure,
            } => {
                self.dealer.far_registered(key, realm, procedure);
                self.answer(key, &Frame::Confirm { number });
            }
            Frame::Remove {
                number,
                realm,
                procedure,
            } => {
                self.dealer.far_withdrew(key, realm, procedure);
                self.answer(key, &Frame::Confirm { number });
            }
            Frame::Confirm { number } => {
                for registration in self.net.directory.confirmed(key, number) {
                    self.dealer.confirmed(registration, &mut self.net);
                }
            }
            Frame::Window { flow, way, bytes } => {
                let of = self
                    .net
                    .link_mut(key)
                    .and_then(|link| link.windows.get(&(flow, way)).copied());
                if let Some(of) = of {
                    self.net
                        .release_over(of, usize::try_from(bytes).unwrap_or(usize::MAX));
                }
            }
            Frame::Ping(number) => self.answer(key, &Frame::Pong(number)),
            Frame::Pong(number) => {
                if let Some(link) = self.net.link_mut(key) {
                    link.answered(number);
                }
            }
            Frame::Goodbye => return Err(Fault::Goodbye),
        }
        Ok(())
    }

    /// A message about a call: to the dealer; what it does not use of the window goes back at once.
    fn cross(&mut self, key: LinkKey, crossing: &Crossing<'_>, cost: usize) -> Result<(), Fault> {
        let (flow, way) = (crossing.flow(), frame::way(crossing));
        if matches!(crossing, Crossing::Cancel { .. })
            && let Some(link) = self.net.dirty_link(key)
            && let Some(assembly) = link.assemblies.remove(&(flow, Way::Up))
        {
            link.give_back(flow, Way::Up, assembly.cost);
        }
        self.net.arriving = cost;
        let crossed = self.dealer.cross(key, crossing, &mut self.net);
        let unused = std::mem::take(&mut self.net.arriving);
        if unused > 0
            && let Some(link) = self.net.dirty_link(key)
        {
            link.give_back(flow, way, unused);
        }
        Ok(crossed?)
    }

    /// The first frame of a message in pieces.
    fn begin(
        &mut self,
        key: LinkKey,
        crossing: &Crossing<'_>,
        frame: &Frame<'_>,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let (flow, way) = (crossing.flow(), frame::way(crossing));
        let is_expected = self.dealer.expects(key, crossing);
        let Some(link) = self.net.dirty_link(key) else {
            return Ok(());
        };
        // One that was begun and is not finished: its sender has thrown the rest away.
        if let Some(begun) = link.assemblies.remove(&(flow, way)) {
            link.give_back(flow, way, begun.cost);
        }
        if is_expected {
            link.assemble((flow, way), frame, bytes)?;
        } else {
            // Its call is over; the pieces behind it find nothing begun.
            link.give_back(flow, way, frame.cost());
        }
        Ok(())
    }

    fn piece(&mut self, key: LinkKey, at: (u64, Way), frame: &Frame<'_>, bytes: &[u8]) -> Result<(), Fault> {
        let Some(link) = self.net.dirty_link(key) else {
            return Ok(());
        };
        if !link.assemblies.contains_key(&at) {
            // Its call is over.
            link.give_back(at.0, at.1, bytes.len());
            return Ok(());
        }
        if link.assemble(at, frame, bytes)?
            && let Some(whole) = link.assemblies.remove(&at)
        {
            let Frame::Crossing { crossing, .. } = Frame::read(&whole.bytes)? else {
                return Err(Malformed.into());
            };
            debug_assert_eq!(whole.cost, crossing.payload().bytes.len() + MESSAGE_COST);
            self.cross(key, &crossing, whole.cost)?;
            if let Some(link) = self.net.link_mut(key) {
                link.keep(whole.bytes);
            }
        }
        Ok(())
    }

    fn answer(&mut self, key: LinkKey, frame: &Frame<'_>) {
        if let Some(link) = self.net.dirty_link(key) {
            link.send_urgent(frame);
        }
    }

    /// Asks the peers whether they live, and loses those that do not answer.
    pub fn tend_links(&mut self) {
        let now: Instant = self.net.now;
        let due: Vec<_> = self
            .net
            .links
            .iter()
            .flatten()
            .filter(|link| link.next_tend() <= now)
            .map(|link| link.key)
            .collect();
        for key in due {
            let Some(link) = self.net.dirty_link(key) else {
                continue;
            };
            if !link.tend(now) {
                self.lose_link(key, "the peer does not answer");
            }
        }
    }

    /// Says goodbye over every link.
    pub fn part_from_links(&mut self) {
        let keys: Vec<_> = self.net.links.iter().flatten().map(|link| link.key).collect();
        for key in &keys {
            self.answer(*key, &Frame::Goodbye);
        }
        self.flush();
        keys.into_iter()
            .for_each(|key| self.lose_link(key, "this agent stops"));
    }
}
