//! What waits to cross a link, each direction of a call in a send queue of its own; those with something to send take
//! turns, frame by frame.
//!
//! ```text
//! openings of session s1   [CALL 7 | CALL 8 (first of 3) | piece | piece]      one after another: their order is kept
//! call 5, up               [chunk | chunk | chunk]
//! call 8, up               [chunk]                                            blocked on open: its CALL has not left yet
//! ```
//!
//! Always: (1) frames of one queue leave in the order they came; (2) nothing of a call leaves before the whole of its
//! CALL; (3) a queue that is empty is gone.

use std::collections::VecDeque;

use foldhash::{HashMap, HashSet};
use pipes_wamp::router::{Arena, Key, PeerMessage, SessionKey, Way};

use crate::buffers::Buffers;
use crate::peers::frame::{self, Frame, LENGTH};

/// A queue whose first message has less takes no block: there may be one for each call, with a CANCEL in it.
const LITTLE: usize = 1 << 10;
/// Bytes that are not to be sent at a queue's front before the rest is moved there.
const MOVED_FROM: usize = 64 << 10;

/// Queues that are gone and stay in the ring, where their turn is passed over.
const GONE_KEPT: usize = 1024;

/// Whose frames a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// First messages of the calls of a session.
    Openings(SessionKey),
    /// What else belongs to a call, by its number on the link.
    Call(u64, Way),
}

/// One send queue.
pub(crate) struct SendQueue {
    whose: Whose,
    bytes: Vec<u8>,
    begin: usize,
}

/// All send queues of a link.
#[derive(Default)]
pub(crate) struct SendQueues {
    queues: Arena<SendQueue>,
    by_owner: HashMap<Whose, Key<SendQueue>>,
    ring: VecDeque<Key<SendQueue>>,
    /// Calls of this node whose CALL has not left.
    blocked_on_open: HashSet<u64>,
}

impl SendQueues {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Puts a message into its queue.
    pub fn push(&mut self, whose: Whose, message: &PeerMessage<'_>, buffers: &mut Buffers) {
        let key = match self.by_owner.get(&whose) {
            Some(key) => *key,
            None => {
                let payload = message.payload().bytes;
                let bytes = if payload.len() < LITTLE {
                    Vec::new()
                } else {
                    buffers.block(payload.len(), payload)
                };
                let begin = bytes.len();
                let key = self.queues.insert(SendQueue { whose, bytes, begin });
                self.by_owner.insert(whose, key);
                if self.may_leave(whose) {
                    self.ring.push_back(key);
                }
                key
            }
        };
        if let Whose::Openings(_) = whose {
            self.blocked_on_open.insert(message.number());
        }
        if let Some(queue) = self.queues.get_mut(key) {
            if queue.begin > MOVED_FROM && queue.begin > queue.bytes.len() / 2 {
                queue.bytes.drain(..queue.begin);
                queue.begin = 0;
            }
            frame::write_message(message, &mut queue.bytes);
        }
    }

    fn may_leave(&self, whose: Whose) -> bool {
        match whose {
            Whose::Openings(_) => true,
            Whose::Call(number, Way::Up) => !self.blocked_on_open.contains(&number),
            // Answers to a call of the far node, which counts its calls by itself: the same number is another call here.
            Whose::Call(_, Way::Down) => true,
        }
    }

    /// Gives the next frame to `send`, of the queue whose turn it is. False: nothing waits.
    pub fn next<E>(
        &mut self,
        buffers: &mut Buffers,
        send: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some(key) = self.ring.pop_front() else {
            return Ok(false);
        };
        let Some(queue) = self.queues.get_mut(key) else {
            return Ok(true);
        };
        let rest = &queue.bytes[queue.begin..];
        // What we wrote is well formed.
        let length = frame::length(rest).ok().flatten().unwrap_or(rest.len());
        let sent = &rest[..length];
        send(sent)?;
        let opened = match queue.whose {
            Whose::Openings(_) => last_of_a_call(sent),
            Whose::Call(..) => None,
        };
        queue.begin += length;
        if queue.begin >= queue.bytes.len() {
            self.drop_queue(key, buffers);
        } else {
            self.ring.push_back(key);
        }
        if let Some(number) = opened {
            self.unblock(number);
        }
        Ok(true)
    }

    fn unblock(&mut self, number: u64) {
        self.blocked_on_open.remove(&number);
        if let Some(key) = self.by_owner.get(&Whose::Call(number, Way::Up)) {
            self.ring.push_back(*key);
        }
    }

    /// Throws away what of a flow waits; gives what it cost.
    pub fn discard(&mut self, number: u64, way: Way, buffers: &mut Buffers) -> usize {
        let Some(key) = self.by_owner.get(&Whose::Call(number, way)).copied() else {
            return 0;
        };
        let Some(queue) = self.queues.get(key) else {
            return 0;
        };
        let mut rest = &queue.bytes[queue.begin..];
        let mut cost = 0;
        while let Ok(Some(length)) = frame::length(rest) {
            cost += Frame::read(&rest[LENGTH..length]).map_or(0, |frame| frame.cost());
            rest = &rest[length..];
        }
        // Its place in the ring is passed over: to look for it would cost as much as all calls that wait.
        self.drop_queue(key, buffers);
        self.forget_gone();
        cost
    }

    /// Takes queues that are gone out of the ring, once they are the most: each that goes costs little.
    fn forget_gone(&mut self) {
        if self.ring.len() > GONE_KEPT + 2 * self.queues.len() {
            let queues = &self.queues;
            self.ring.retain(|key| queues.get(*key).is_some());
        }
    }

    fn drop_queue(&mut self, key: Key<SendQueue>, buffers: &mut Buffers) {
        if let Some(queue) = self.queues.remove(key) {
            self.by_owner.remove(&queue.whose);
            buffers.give_block(queue.bytes);
        }
    }
}

/// The call whose CALL ends with this frame.
fn last_of_a_call(framed: &[u8]) -> Option<u64> {
    match Frame::read(&framed[LENGTH..]) {
        Ok(Frame::Message { message, more: false }) => Some(message.number()),
        Ok(Frame::Piece {
            number, more: false, ..
        }) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipes_wamp::message::Payload;

    fn chunk(number: u64, bytes: &[u8]) -> PeerMessage<'_> {
        PeerMessage::Chunk {
            number,
            progress: true,
            payload: Payload { parts: 1, bytes },
        }
    }

    fn opening(number: u64, bytes: &[u8]) -> PeerMessage<'_> {
        let payload = Payload { parts: 1, bytes };
        let (realm, procedure) = ("default", "com.sum");
        let (progress, receive_progress, caller, grant) = (true, false, None, None);
        PeerMessage::Call {
            number,
            realm,
            procedure,
            progress,
            receive_progress,
            caller,
            grant,
            payload,
        }
    }

    fn order(queues: &mut SendQueues, buffers: &mut Buffers) -> Vec<u64> {
        let mut order = Vec::new();
        let mut note = |framed: &[u8]| {
            order.push(match Frame::read(&framed[LENGTH..]).unwrap() {
                Frame::Message { message, .. } => message.number(),
                Frame::Piece { number, .. } => number,
                other => panic!("{other:?}"),
            });
            Ok::<_, ()>(())
        };
        while queues.next(buffers, &mut note).unwrap() {}
        assert!(queues.is_empty());
        order
    }

    #[test]
    fn flows_take_turns_and_a_large_message_lets_others_between() {
        let (mut queues, mut buffers) = (SendQueues::default(), Buffers::default());
        let large = vec![1; 3 * frame::PIECE];
        queues.push(Whose::Call(1, Way::Up), &chunk(1, &large), &mut buffers);
        queues.push(Whose::Call(2, Way::Up), &chunk(2, &[1]), &mut buffers);
        queues.push(Whose::Call(2, Way::Up), &chunk(2, &[2]), &mut buffers);
        assert_eq!(order(&mut queues, &mut buffers), [1, 2, 1, 2, 1]);
    }

    #[test]
    fn nothing_of_a_call_overtakes_its_beginning() {
        let (mut queues, mut buffers) = (SendQueues::default(), Buffers::default());
        let (large, openings) = (vec![1; 3 * frame::PIECE], Whose::Openings(SessionKey::none()));
        queues.push(openings, &opening(1, &large), &mut buffers);
        queues.push(openings, &opening(2, &[1]), &mut buffers);
        queues.push(Whose::Call(2, Way::Up), &chunk(2, &[1]), &mut buffers);
        queues.push(Whose::Call(9, Way::Up), &chunk(9, &[1]), &mut buffers);
        assert_eq!(order(&mut queues, &mut buffers), [1, 9, 1, 1, 2, 2]);
    }

    #[test]
    fn an_answer_does_not_wait_for_a_call_of_the_same_number() {
        let (mut queues, mut buffers) = (SendQueues::default(), Buffers::default());
        let large = vec![1; 2 * frame::PIECE];
        let openings = Whose::Openings(SessionKey::none());
        queues.push(openings, &opening(1, &large), &mut buffers);
        let payload = Payload {
            parts: 1,
            bytes: &[1],
        };
        let result = PeerMessage::Result {
            number: 1,
            progress: false,
            payload,
        };
        queues.push(Whose::Call(1, Way::Down), &result, &mut buffers);
        assert_eq!(order(&mut queues, &mut buffers), [1, 1, 1]);
    }

    #[test]
    fn queues_that_are_gone_leave_little_behind() {
        let (mut queues, mut buffers) = (SendQueues::default(), Buffers::default());
        for number in 0..5_000 {
            queues.push(Whose::Call(number, Way::Up), &chunk(number, &[1]), &mut buffers);
            if number > 2 {
                queues.discard(number, Way::Up, &mut buffers);
            }
            assert!(queues.ring.len() <= GONE_KEPT + 2 * queues.queues.len() + 1);
        }
        assert_eq!(order(&mut queues, &mut buffers), [0, 1, 2]);
    }

    #[test]
    fn what_is_thrown_away_gives_its_cost_back() {
        let (mut queues, mut buffers) = (SendQueues::default(), Buffers::default());
        let large = vec![1; 2 * frame::PIECE];
        let whose = Whose::Call(1, Way::Up);
        queues.push(whose, &chunk(1, &large), &mut buffers);
        queues.push(whose, &chunk(1, &[1, 2]), &mut buffers);
        let all = frame::cost(&chunk(1, &large)) + frame::cost(&chunk(1, &[1, 2]));
        let mut first = 0;
        queues
            .next(&mut buffers, |framed| {
                first = Frame::read(&framed[LENGTH..]).map_or(0, |frame| frame.cost());
                Ok::<_, ()>(())
            })
            .unwrap();
        assert_eq!(first + queues.discard(1, Way::Up, &mut buffers), all);
        assert!(queues.is_empty());
    }
}
