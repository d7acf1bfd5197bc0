//! Messages that come over a link in pieces, put together.

use foldhash::HashMap;
use pipes_wamp::router::Way;
use pipes_wamp::transport::rawsocket::MESSAGE_MAX;

use crate::buffers::BLOCK;
use crate::peers::frame::{FRAME_MAX, Frame, Malformed};

/// What a message that is put together may have: a WAMP message and the head of its frame.
const ASSEMBLED_MAX: usize = MESSAGE_MAX + FRAME_MAX;

/// A message of which some is there.
pub(crate) struct Assembly {
    /// Its first frame, and behind it what came since.
    pub bytes: Vec<u8>,
    /// What it has cost so far.
    pub cost: usize,
}

/// What became of a piece.
pub(crate) enum Added {
    /// More is to come.
    Begun,
    /// It was the last.
    Whole(Assembly),
    /// None was begun: its call is over.
    Unexpected,
}

/// The messages of one link, by their calls' numbers and directions.
#[derive(Default)]
pub(crate) struct Pieces {
    begun: HashMap<(u64, Way), Assembly>,
    /// Room for the next of them: a large allocation costs page faults at each use.
    spare: Vec<u8>,
}

impl Pieces {
    /// A message begins.
    pub fn begin(&mut self, at: (u64, Way)) {
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.reserve(BLOCK);
        self.begun.insert(at, Assembly { bytes, cost: 0 });
    }

    /// Adds a frame, its head included if it is the first.
    pub fn add(&mut self, at: (u64, Way), frame: &Frame<'_>, bytes: &[u8]) -> Result<Added, Malformed> {
        let Some(assembly) = self.begun.get_mut(&at) else {
            return Ok(Added::Unexpected);
        };
        assembly.cost += frame.cost();
        assembly.bytes.extend_from_slice(bytes);
        if assembly.bytes.len() > ASSEMBLED_MAX {
            return Err(Malformed);
        }
        if !matches!(frame, Frame::Piece { more: false, .. }) {
            return Ok(Added::Begun);
        }
        Ok(self.begun.remove(&at).map_or(Added::Unexpected, Added::Whole))
    }

    /// The rest of a message will not come, or for nobody: gives what it has cost.
    pub fn drop(&mut self, at: (u64, Way)) -> usize {
        self.begun.remove(&at).map_or(0, |assembly| assembly.cost)
    }

    /// Takes the room of a message that was dealt with.
    pub fn keep(&mut self, mut bytes: Vec<u8>) {
        // One that grew for a larger message goes.
        if bytes.capacity() < 2 * BLOCK {
            bytes.clear();
            self.spare = bytes;
        }
    }
}
