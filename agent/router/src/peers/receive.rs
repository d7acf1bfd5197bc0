//! What comes over links.
//!
//! A link is read once a turn like any connection. Its frames are always taken: the far node keeps the windows, and a
//! link never waits for one session.

use pipes_wamp::router::{LinkKey, PeerMessage, Way};

use crate::flow_control::window::MESSAGE_COST;
use crate::peers::frame::{self, Change, Frame, LENGTH, Malformed};
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
    pub(super) fn take_plain(
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
            Frame::Changes { number, mut changes } => {
                while let Some(change) = changes.next()? {
                    self.far_changed(key, &change);
                }
                self.answer(key, &Frame::Confirm { change: number });
            }
            Frame::Refuse { realm, procedure } => {
                self.dealer.refused_by_peer(realm, procedure, &mut self.sockets);
            }
            Frame::Confirm { change } => self.sockets.registrations.confirmed(key, change),
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
            Frame::Later => {}
        }
        Ok(())
    }

    fn far_changed(&mut self, key: LinkKey, change: &Change<'_>) {
        let Change {
            realm,
            procedure,
            is_withdrawn,
        } = *change;
        if is_withdrawn {
            self.dealer.far_withdrew(key, realm, procedure);
        } else if !self
            .dealer
            .far_registered(key, realm, procedure, &mut self.sockets)
        {
            self.answer(key, &Frame::Refuse { realm, procedure });
        }
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
}
