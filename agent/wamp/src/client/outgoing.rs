//! What a connection is still to write: one buffer, whole frames behind one that may be half written.
//!
//! Always: (1) a frame is queued whole or not at all; (2) after a message that its peer does not take nothing more is
//! written: the caller counts on what it queued, and a hole in it would be silent.

use crate::error::Error;
use crate::message::Message;
use crate::transport::rawsocket::MESSAGE_MAX;
use crate::transport::rawsocket::{FrameKind, HEAD, frame_head};

/// A buffer that grew for a large message is given back beyond this.
const KEPT_MAX: usize = 1 << 20;
/// PONGs that may wait to be written: a peer that asks on without reading the answers is not read from meanwhile.
pub(super) const PONGS_MAX: usize = 64 << 10;

/// The buffer of a connection's two halves.
pub(super) struct Outgoing {
    buffer: Vec<u8>,
    written: usize,
    /// The longest message that the peer takes.
    limit: usize,
    /// Bytes of PONGs queued since the buffer was last empty.
    pongs: usize,
    /// A message was over the limit, by its length.
    refused: Option<usize>,
}

impl Outgoing {
    pub(super) fn new() -> Outgoing {
        Outgoing {
            buffer: Vec::new(),
            written: 0,
            limit: MESSAGE_MAX,
            pongs: 0,
            refused: None,
        }
    }

    pub(super) fn limit(&mut self, limit: usize) {
        self.limit = limit.min(MESSAGE_MAX);
    }

    /// Queues a message; `payload` appends its payload's bytes. One over the limit leaves nothing behind.
    pub(super) fn message(
        &mut self,
        message: &Message<'_>,
        payload: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        self.outcome()?;
        let begin = self.buffer.len();
        self.buffer.extend_from_slice(&[0; HEAD]);
        message.encode_head(&mut self.buffer);
        payload(&mut self.buffer);
        let (length, limit) = (self.buffer.len() - begin - HEAD, self.limit);
        if length > limit {
            self.buffer.truncate(begin);
            return Err(Error::TooLarge { length, limit });
        }
        self.buffer[begin..begin + HEAD].copy_from_slice(&frame_head(FrameKind::Message, length));
        Ok(())
    }

    /// As `message`; one over the limit ends the writing.
    pub(super) fn message_or_end(&mut self, message: &Message<'_>, payload: impl FnOnce(&mut Vec<u8>)) {
        if let Err(Error::TooLarge { length, .. }) = self.message(message, payload) {
            self.refused = Some(length);
        }
    }

    /// Queues a PING, which says nothing but that an answer is wanted.
    pub(super) fn ping(&mut self) {
        self.octets(&frame_head(FrameKind::Ping, 0));
    }

    /// Queues the answer to a PING.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        self.octets(&frame_head(FrameKind::Pong, payload.len()));
        self.octets(payload);
        self.pongs += HEAD + payload.len();
    }

    /// Whether PONGs wait, and whether so many that nothing more may be read.
    pub(super) fn pongs(&self) -> (bool, bool) {
        (self.pongs > 0, self.pongs > PONGS_MAX)
    }

    /// Nobody waits for the PONGs any more.
    pub(super) fn forget_pongs(&mut self) {
        self.pongs = 0;
    }

    pub(super) fn octets(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    pub(super) fn pending(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// What is to be written next.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.written..]
    }

    /// So much of it was written.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.pending() > 0 {
            return;
        }
        (self.written, self.pongs) = (0, 0);
        if self.buffer.capacity() > KEPT_MAX {
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
    }

    /// Fails once a message was refused and all before it is written.
    pub(super) fn outcome(&self) -> Result<(), Error> {
        match self.refused {
            Some(length) => Err(Error::TooLarge {
                length,
                limit: self.limit,
            }),
            None => Ok(()),
        }
    }
}
