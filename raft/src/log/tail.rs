//! What follows the last whole frame of a segment, told from its bytes alone.
//!
//! | the bytes | are | because |
//! |---|---|---|
//! | none, or zeros behind a frame of this segment | room | a segment grows ahead of its frames, and its first frame was synced with its name |
//! | in the last segment, anything in which no later frame lies | torn | a frame is written when the one before it has been synced: this one never was |
//! | anything else | damage | it was synced, and somebody was told so |

use crate::format::holds_later_frame;

/// What follows the last whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Room for the frames to come.
    Room,
    /// A frame that was never synced: it may be cut off.
    Torn,
    /// Frames that were synced and cannot be read any more.
    Damage,
}

/// Where the bytes lie.
pub(super) struct Place {
    /// Whether a whole frame lies before them in this segment.
    pub(super) is_after_frame: bool,
    /// The number of the last whole frame of the log; 0 before any.
    pub(super) sequence: u64,
    /// Whether no segment follows.
    pub(super) is_last: bool,
}

impl Tail {
    /// What `bytes` are, which go on to the end of the file and do not begin with a whole frame.
    pub(super) fn of(bytes: &[u8], place: &Place) -> Tail {
        let is_zeros = bytes.iter().all(|byte| *byte == 0);
        if bytes.is_empty() || (place.is_after_frame && is_zeros) {
            Tail::Room
        } else if place.is_last && !holds_later_frame(bytes, place.sequence + 1) {
            Tail::Torn
        } else {
            Tail::Damage
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{begin_frame, finish_frame};

    const LAST: Place = Place {
        is_after_frame: true,
        sequence: 6,
        is_last: true,
    };

    fn frame(sequence: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        let start = begin_frame(&mut frame);
        frame.extend_from_slice(b"body");
        finish_frame(&mut frame, start, sequence);
        frame
    }

    fn torn(sequence: u64) -> Vec<u8> {
        let mut frame = frame(sequence);
        frame.pop();
        frame
    }

    #[test]
    fn zeros_are_room_only_behind_a_frame_of_the_segment() {
        assert_eq!(Tail::of(&[], &LAST), Tail::Room);
        assert_eq!(Tail::of(&[0; 99], &LAST), Tail::Room);
        let first = Place {
            is_after_frame: false,
            is_last: false,
            ..LAST
        };
        assert_eq!(Tail::of(&[0; 99], &first), Tail::Damage);
    }

    #[test]
    fn a_frame_is_torn_only_at_the_end_of_the_last_segment() {
        assert_eq!(Tail::of(&torn(7), &LAST), Tail::Torn);
        assert_eq!(Tail::of(&[torn(7), vec![0; 99]].concat(), &LAST), Tail::Torn);
        assert_eq!(Tail::of(&[torn(7), frame(8)].concat(), &LAST), Tail::Damage);
        let closed = Place {
            is_last: false,
            ..LAST
        };
        assert_eq!(Tail::of(&torn(7), &closed), Tail::Damage);
    }
}
