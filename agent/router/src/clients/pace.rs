//! How much of a connection is read and understood in one turn of the loop.
//!
//! ```text
//! new                        reads 2 KiB, understands 256 messages at most
//! a chunk of 64 KiB begins   reads 256 KiB from the next turn on
//! 256 messages of 12 octets  reads what 256 such messages have
//! ```
//!
//! What was read and not understood is held until the connection's next turn: so no more is read than a turn understands,
//! and one that sends the beginning of a small message holds little.

/// One read takes up to this.
pub(crate) const READ: usize = 256 << 10;
/// One read takes at least this, the whole of most messages.
const READ_MIN: usize = 2 << 10;
/// Messages of one connection in one turn: some tenths of a millisecond of the loop's time.
pub(crate) const MESSAGES_A_TURN: usize = 256;

/// One connection's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    reads: usize,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { reads: READ_MIN }
    }
}

impl Pace {
    /// How much the next read may take.
    pub fn reads(self) -> usize {
        self.reads
    }

    /// So many messages of so many octets in all were understood of a read, which was all that a turn may if `is_over`;
    /// `begun` is the length of the message that begins behind them.
    pub fn understood(&mut self, messages: usize, octets: usize, begun: usize, is_over: bool) {
        let usual = octets.checked_div(messages).unwrap_or_default().max(begun);
        let wanted = (usual * MESSAGES_A_TURN).clamp(READ_MIN, READ);
        // What was less than a turn's worth says nothing against the next being more.
        if wanted > self.reads || is_over {
            self.reads = wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_read_in_long_reads_at_once_and_short_ones_by_the_turn() {
        let mut pace = Pace::default();
        assert_eq!(pace.reads(), READ_MIN);
        pace.understood(0, 0, 0, false);
        assert_eq!(pace.reads(), READ_MIN, "nothing is known of it");
        pace.understood(1, 20, 64 << 10, false);
        assert_eq!(pace.reads(), READ, "a chunk begins");
        pace.understood(3, 90, 0, false);
        assert_eq!(pace.reads(), READ, "chunks may follow");
        pace.understood(MESSAGES_A_TURN, MESSAGES_A_TURN * 12, 0, true);
        assert_eq!(pace.reads(), MESSAGES_A_TURN * 12);
        pace.understood(2, 2 * 100, 0, false);
        assert_eq!(pace.reads(), MESSAGES_A_TURN * 100);
    }
}
