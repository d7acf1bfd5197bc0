//! Lines of the log that strangers can cause: one a second of a kind, and how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of a kind.
const EVERY: Duration = Duration::from_secs(1);

/// The lines of one kind.
#[derive(Debug, Default)]
pub struct Rationed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Rationed {
    /// How many were left out before this line, if it may be written now.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.duration_since(last) < EVERY) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_lines_one_a_second_is_written_and_the_others_are_counted() {
        let (lines, begun) = (Rationed::default(), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        let written: Vec<u64> = (0..25).filter_map(|n| lines.admit(at(n * 100))).collect();
        assert_eq!(written, [0, 9, 9]);
        assert_eq!(lines.admit(at(60_000)), Some(4));
    }
}
