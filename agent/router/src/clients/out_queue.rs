//! What waits to be written to one socket, and whose windows it takes.
//!
//! ```text
//! blocks  [####....][########][###     ]     `written` counts what left, `appended` what came
//! marks   (end 300, flow 7, 364) (end 900, flow 9, 664)
//! ```
//!
//! A mark is passed when the socket has taken the bytes before its end: then its flow gets its window back. What belongs to
//! no flow, an answer of the router itself, is the connection's own to pay, and marked as well. Messages lie in blocks one
//! after another, so that one system call takes many.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use crate::buffers::Buffers;
use crate::flow_control::window::{FlowKey, MESSAGE_COST};

/// Blocks handed to the kernel in one call: 2 MiB, more than any socket takes.
const SLICES: usize = 8;

/// A message's place in the queue, and its flow.
const MARK_COST: usize = 256;

/// One message's place and cost.
#[derive(Debug, Clone, Copy)]
struct Mark {
    end: u64,
    /// Whose window it takes; `None`: the connection pays for it.
    flow: Option<FlowKey>,
    cost: usize,
}

/// What of a flow's window is free again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Released {
    /// Whose window it was.
    pub flow: FlowKey,
    /// How much of it.
    pub cost: usize,
}

/// Messages one after another, and how far they have left.
struct Block {
    bytes: Vec<u8>,
    /// Bytes at its front that are not to be sent: padding, then what has left.
    sent: usize,
}

/// The queue.
#[derive(Default)]
pub(crate) struct OutQueue {
    blocks: VecDeque<Block>,
    appended: u64,
    written: u64,
    marks: VecDeque<Mark>,
    /// What of it is the connection's own, heads and places included.
    own: usize,
    /// Room of all blocks.
    room: usize,
}

impl OutQueue {
    /// Appends what `write` writes, at most about `size` bytes, most of them a copy of `source`.
    pub fn append(
        &mut self,
        size: usize,
        source: &[u8],
        buffers: &mut Buffers,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let has_room = self
            .blocks
            .back()
            .is_some_and(|block| block.bytes.capacity() - block.bytes.len() >= size);
        if !has_room {
            let bytes = if self.blocks.is_empty() {
                buffers.first_block(size, source)
            } else {
                buffers.block(size, source)
            };
            let sent = bytes.len();
            self.room += bytes.capacity();
            self.blocks.push_back(Block { bytes, sent });
        }
        if let Some(Block { bytes, .. }) = self.blocks.back_mut() {
            let (before, room) = (bytes.len(), bytes.capacity());
            write(bytes);
            self.appended += (bytes.len() - before) as u64;
            self.room += bytes.capacity() - room;
        }
    }

    /// What was appended last takes `cost` of `flow`'s window.
    pub fn mark(&mut self, flow: FlowKey, cost: usize) {
        self.marks.push_back(Mark {
            end: self.appended,
            flow: Some(flow),
            cost,
        });
    }

    /// What was appended last, `octets` long, is the connection's own to pay.
    pub fn mark_own(&mut self, octets: usize) {
        let cost = octets + MESSAGE_COST;
        self.own += cost;
        self.marks.push_back(Mark {
            end: self.appended,
            flow: None,
            cost,
        });
    }

    /// What is held by it: its blocks, and its messages' places here and in the ledger.
    pub fn held(&self) -> usize {
        self.room + self.marks.len() * MARK_COST
    }

    /// Octets that have left.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// What of it is the connection's own.
    pub fn own(&self) -> usize {
        self.own
    }

    /// Whether everything left.
    pub fn is_empty(&self) -> bool {
        self.appended == self.written
    }

    /// Writes what the socket takes. True: all; false: it takes no more now.
    pub fn flush(&mut self, socket: &mut impl Write, buffers: &mut Buffers) -> io::Result<bool> {
        while self.appended > self.written {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut wanted = 0;
            let mut count = 0;
            for (slice, block) in slices.iter_mut().zip(&self.blocks) {
                let rest = &block.bytes[block.sent..];
                *slice = IoSlice::new(rest);
                wanted += rest.len();
                count += 1;
            }
            let taken = match socket.write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.advance(taken, buffers);
            if taken < wanted {
                // A stream socket that took less is full, and says when it is not.
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn advance(&mut self, mut taken: usize, buffers: &mut Buffers) {
        self.written += taken as u64;
        while let Some(first) = self.blocks.front_mut() {
            let left = first.bytes.len() - first.sent;
            if taken < left {
                first.sent += taken;
                break;
            }
            taken -= left;
            if let Some(block) = self.blocks.pop_front() {
                self.room -= block.bytes.capacity();
                buffers.give_block(block.bytes);
            }
        }
    }

    /// The next that was released: its mark was passed.
    pub fn released(&mut self) -> Option<Released> {
        loop {
            let Mark { flow, cost, .. } = self.marks.pop_front_if(|mark| mark.end <= self.written)?;
            match flow {
                Some(flow) => return Some(Released { flow, cost }),
                None => self.own -= cost,
            }
        }
    }

    /// Throws everything away: all of it is released.
    pub fn clear(&mut self, buffers: &mut Buffers) {
        for block in self.blocks.drain(..) {
            buffers.give_block(block.bytes);
        }
        self.room = 0;
        self.written = self.appended;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::BLOCK;

    /// Takes so many bytes a call, then no more.
    struct Narrow(Vec<u8>, usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1);
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.extend_from_slice(&bytes[..taken]);
            self.1 -= taken;
            Ok(taken)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut written = 0;
            for slice in slices {
                match self.write(slice) {
                    Ok(taken) => written += taken,
                    Err(error) if written == 0 => return Err(error),
                    Err(_) => break,
                }
            }
            Ok(written)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Long and short messages, no two bytes of which are near the same.
    fn messages() -> Vec<Vec<u8>> {
        let lengths = [20_000, 3, 300_000, 70_000, 1, 16_384, 2 * BLOCK, 65_536];
        let pattern = |length| (0..length).map(|at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
        let lengths = lengths.map(|length| u32::try_from(length).unwrap());
        lengths
            .into_iter()
            .map(|length| pattern(length).collect())
            .collect()
    }

    #[test]
    fn whatever_the_socket_takes_all_bytes_leave_once_and_in_order() {
        for step in [7_919, 65_521, usize::MAX] {
            let (mut queue, mut buffers) = (OutQueue::default(), Buffers::default());
            let flow = FlowKey::none();
            for message in messages() {
                queue.append(message.len(), &message, &mut buffers, |out| {
                    out.extend_from_slice(&message);
                });
                queue.mark(flow, message.len());
            }
            let mut socket = Narrow(Vec::new(), step);
            while !queue.flush(&mut socket, &mut buffers).unwrap() {
                socket.1 = step;
            }
            assert!(socket.0 == messages().concat(), "in steps of {step}");
            let costs = std::iter::from_fn(|| queue.released()).map(|released| released.cost);
            assert!(costs.eq(messages().iter().map(Vec::len)));
        }
    }

    #[test]
    fn what_was_thrown_away_in_the_middle_of_a_block_is_gone() {
        let (mut queue, mut buffers) = (OutQueue::default(), Buffers::default());
        let mut socket = Narrow(Vec::new(), 1_000);
        for message in messages() {
            queue.append(message.len(), &message, &mut buffers, |out| {
                out.extend_from_slice(&message);
            });
            queue.mark(FlowKey::none(), message.len());
        }
        assert!(!queue.flush(&mut socket, &mut buffers).unwrap());
        queue.clear(&mut buffers);
        assert!(queue.is_empty());
        assert_eq!(std::iter::from_fn(|| queue.released()).count(), messages().len());
        let next = &messages()[2];
        queue.append(next.len(), next, &mut buffers, |out| out.extend_from_slice(next));
        socket = Narrow(Vec::new(), usize::MAX);
        assert!(queue.flush(&mut socket, &mut buffers).unwrap());
        assert!(socket.0 == *next);
    }

    #[test]
    fn a_mark_is_passed_when_its_last_byte_has_left() {
        let (mut queue, mut buffers) = (OutQueue::default(), Buffers::default());
        let flow = FlowKey::none();
        for message in [&b"abc"[..], b"defgh"] {
            queue.append(message.len(), message, &mut buffers, |out| {
                out.extend_from_slice(message)
            });
            queue.mark(flow, message.len());
        }
        let mut socket = Narrow(Vec::new(), 7);
        assert!(!queue.flush(&mut socket, &mut buffers).unwrap());
        assert_eq!(queue.released().map(|released| released.cost), Some(3));
        assert!(queue.released().is_none());
        socket.1 = 10;
        assert!(queue.flush(&mut socket, &mut buffers).unwrap());
        assert_eq!(
            (queue.released().map(|released| released.cost), &socket.0[..]),
            (Some(5), &b"abcdefgh"[..])
        );
    }

    #[test]
    fn what_belongs_to_no_flow_is_the_connections_own_until_it_has_left() {
        let (mut queue, mut buffers) = (OutQueue::default(), Buffers::default());
        for _ in 0..2 {
            queue.append(3, &[], &mut buffers, |out| out.extend_from_slice(b"abc"));
            queue.mark_own(3);
        }
        assert_eq!(queue.own(), 2 * (3 + MESSAGE_COST));
        let mut socket = Narrow(Vec::new(), 5);
        assert!(!queue.flush(&mut socket, &mut buffers).unwrap());
        assert_eq!((queue.released(), queue.own()), (None, 3 + MESSAGE_COST));
        queue.clear(&mut buffers);
        assert_eq!((queue.released(), queue.own()), (None, 0));
    }

    #[test]
    fn a_message_larger_than_a_block_leaves_in_order() {
        let (mut queue, mut buffers) = (OutQueue::default(), Buffers::default());
        let large = vec![7; 3 * BLOCK];
        queue.append(1, &[], &mut buffers, |out| out.push(1));
        queue.append(large.len(), &large, &mut buffers, |out| {
            out.extend_from_slice(&large)
        });
        queue.append(1, &[], &mut buffers, |out| out.push(2));
        let mut socket = Narrow(Vec::new(), usize::MAX);
        while !queue.flush(&mut socket, &mut buffers).unwrap() {}
        assert!(queue.is_empty());
        assert_eq!(queue.held(), 0);
        assert_eq!(
            (socket.0.len(), socket.0[0], socket.0[3 * BLOCK + 1]),
            (3 * BLOCK + 2, 1, 2)
        );
    }
}
