//! Whether a link's peer lives: pings, and what the kernel knows. Pure.
//!
//! | | a dead server, a cut cable | an agent without a processor |
//! |---|---|---|
//! | its kernel acknowledges | no: lost after 3 s | yes |
//! | it answers pings | no | later, or after 10 s it is lost |
//!
//! TCP_USER_TIMEOUT of 3 s would take the second for the first: while a peer does not read and its window is closed, it
//! counts too. So it is set to the 10 s, and what was sent and is not acknowledged is looked at here.
//!
//! Always: a peer is judged by the loop's own clock (`clock`), after its link was read.

use std::time::{Duration, Instant};

/// A link's peer is asked so often.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked at while a ping is not answered.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A link on which nothing was acknowledged for so long, though something was sent, is lost: what a user waits when a
/// server dies.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(3);
/// A link without an answer for so long is lost: an agent beside a build may get no processor for seconds.
pub(super) const SILENT_MAX: Duration = Duration::from_secs(10);

/// What is known of a peer.
#[derive(Debug)]
pub(super) struct Liveness {
    looked: Instant,
    pinged: Instant,
    pings: u64,
    unanswered_since: Option<Instant>,
}

/// What is to be done about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Lives,
    /// To send this ping.
    Ask(u64),
    /// To give the link up, for this reason.
    Lost(&'static str),
}

impl Liveness {
    /// Of a link that begins.
    pub fn new(now: Instant) -> Liveness {
        Liveness {
            looked: now,
            pinged: now,
            pings: 0,
            unanswered_since: None,
        }
    }

    /// Judges the peer; `unacknowledged`: for how long the kernel has heard nothing, though something was sent.
    pub fn judge(&mut self, now: Instant, unacknowledged: impl FnOnce() -> Duration) -> Verdict {
        self.looked = now;
        let silent = self
            .unanswered_since
            .map_or(Duration::ZERO, |since| now.duration_since(since));
        if silent >= SILENT_MAX {
            return Verdict::Lost("the peer does not answer");
        }
        // Not before a ping has had its time, or what was sent a moment ago would count as long as the silence before it.
        if silent >= PING_EVERY && unacknowledged() >= UNACKNOWLEDGED_MAX {
            return Verdict::Lost("the peer's kernel does not answer");
        }
        if now.duration_since(self.pinged) < PING_EVERY {
            return Verdict::Lives;
        }
        self.pings += 1;
        self.pinged = now;
        self.unanswered_since.get_or_insert(now);
        Verdict::Ask(self.pings)
    }

    /// When it is to be judged again.
    pub fn next(&self) -> Instant {
        match self.unanswered_since {
            Some(_) => self.looked + LOOK_EVERY,
            None => self.pinged + PING_EVERY,
        }
    }

    /// The peer answered a ping.
    pub fn answered(&mut self, number: u64) {
        // After an earlier ping's answer, the last one's is awaited from when it was sent.
        self.unanswered_since = (number != self.pings).then_some(self.pinged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a peer as often as it wants, until it is lost or `limit` seconds are over; when, and why.
    fn watch(
        limit: u64,
        unacknowledged: impl Fn(f64) -> f64,
        answers_after: Option<u64>,
    ) -> Option<(f64, &'static str)> {
        let begun = Instant::now();
        let mut liveness = Liveness::new(begun);
        while liveness.next() < begun + Duration::from_secs(limit) {
            let now = liveness.next();
            let at = now.duration_since(begun).as_secs_f64();
            match liveness.judge(now, || Duration::from_secs_f64(unacknowledged(at))) {
                Verdict::Lost(why) => return Some((at, why)),
                Verdict::Ask(number) => {
                    if let Some(answered) = answers_after.and_then(|after| number.checked_sub(after)) {
                        liveness.answered(answered);
                    }
                }
                Verdict::Lives => {}
            }
        }
        None
    }

    #[test]
    fn a_peer_that_answers_slowly_lives() {
        assert_eq!(watch(100, |_| 0.0, Some(0)), None);
        assert_eq!(watch(100, |_| 0.0, Some(8)), None);
    }

    #[test]
    fn a_silent_peer_is_lost_ten_seconds_after_a_ping() {
        assert_eq!(
            watch(100, |_| 0.0, None),
            Some((11.0, "the peer does not answer"))
        );
    }

    #[test]
    fn a_silent_kernel_is_lost_after_three() {
        // Silent from the beginning; the first ping is the first that it does not acknowledge.
        let lost = watch(100, |at| at, None);
        assert_eq!(lost, Some((3.0, "the peer's kernel does not answer")));
    }

    #[test]
    fn what_was_sent_a_moment_ago_is_no_silence() {
        let begun = Instant::now();
        let mut liveness = Liveness::new(begun);
        // We slept for long, and something was sent before the first look.
        let now = begun + Duration::from_secs(60);
        assert_eq!(liveness.judge(now, || Duration::from_secs(60)), Verdict::Ask(1));
        let now = now + Duration::from_millis(1);
        assert_eq!(liveness.judge(now, || Duration::from_secs(60)), Verdict::Lives);
    }
}
