//! A flow: one direction of a call, how much of it the router holds, and whose window that takes.
//!
//! What is held counts against the flow's window from the moment it is queued until the receiving session's socket has
//! taken it, wherever that session is:
//!
//! | the source | window used up | given back |
//! |---|---|---|
//! | a session of this node | its connection is not read | when the socket, here or at the far node, has taken it |
//! | another node | that node keeps the window, and stops | by a window frame to that node |
//!
//! Of what is held a part may be somebody's debt (`ledger`), and a part on its way over a link.

use pipes_wamp::router::{End, Key, LinkKey, SessionKey, Way};

/// Window of one direction of a call; more than the largest credit of a pipe (1 MiB), so that credit rules.
pub(crate) const WINDOW: usize = 2 << 20;
/// What a message costs beside its payload: its heads and places in queues.
pub(crate) const MESSAGE_COST: usize = 64;
/// A window frame is sent for so much, after the first message and while the call lives.
const PORTION: usize = 128 << 10;

/// Names a flow.
pub(crate) type FlowKey = Key<Flow>;

/// Who sends, and what it gets when something was taken.
pub(super) enum Source {
    /// A session of this node.
    Session {
        session: SessionKey,
        /// It waits until no more than so much of this flow is held.
        waits_for: Option<usize>,
    },
    /// Another node, by the link and the call's number there.
    Node {
        link: LinkKey,
        number: u64,
        /// What was taken and not yet given back.
        due: usize,
        /// Something was given back: what the call's first message cost.
        has_given: bool,
        /// The ledger knows that something is due.
        is_lagging: bool,
    },
    /// Nobody that waits: the call is over.
    Nobody,
}

/// What of a flow is on its way over a link.
pub(super) struct Over {
    pub link: LinkKey,
    pub number: u64,
    pub held: usize,
}

/// The direction in which a session owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// It has sent what was not taken.
    Send,
    /// It does not take what is for it.
    Receive,
}

/// What of a flow is a session's debt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Debt {
    pub session: SessionKey,
    pub side: Side,
    pub amount: usize,
}

/// One direction of a call.
pub(crate) struct Flow {
    pub(super) way: Way,
    pub(super) source: Source,
    /// What is held of it.
    pub(super) held: usize,
    pub(super) over: Option<Over>,
    pub(super) debt: Option<Debt>,
    /// Its call is over.
    pub(super) is_closed: bool,
    /// Its source is a session of users' realms.
    pub(super) is_users: bool,
}

impl Flow {
    pub(super) fn new(way: Way, source: End, is_users: bool) -> Flow {
        let source = match source {
            End::Session(session, _) => Source::Session {
                session,
                waits_for: None,
            },
            End::Link(link, number) => Source::Node {
                link,
                number,
                due: 0,
                has_given: false,
                is_lagging: false,
            },
        };
        Flow {
            way,
            source,
            held: 0,
            over: None,
            debt: None,
            is_closed: false,
            is_users,
        }
    }

    /// Holds `cost` more, for somebody who has no room for more if `is_full`. True: its source must wait from now on, until
    /// half of it is taken. One that wakes for every message would write them one by one.
    pub(super) fn charge(&mut self, cost: usize, is_full: bool) -> bool {
        self.held += cost;
        match &mut self.source {
            Source::Session { waits_for, .. } if waits_for.is_none() && (is_full || self.held >= WINDOW) => {
                *waits_for = Some(self.held.min(WINDOW) / 2);
                true
            }
            _ => false,
        }
    }

    /// The session that sends it, and is charged for it while the call lives.
    pub(super) fn sender(&self) -> Option<SessionKey> {
        match self.source {
            Source::Session { session, .. } => Some(session),
            Source::Node { .. } | Source::Nobody => None,
        }
    }

    /// Holds `cost` less. Gives what of it was a debt.
    pub(super) fn release(&mut self, cost: usize) -> Option<Debt> {
        self.held = self.held.saturating_sub(cost);
        let debt = self.debt.as_mut()?;
        let amount = debt.amount.min(cost);
        debt.amount -= amount;
        (amount > 0).then_some(Debt { amount, ..*debt })
    }

    /// True: its source need not wait any more.
    pub(super) fn wake(&mut self) -> bool {
        match &mut self.source {
            Source::Session { waits_for, .. } => {
                waits_for.take_if(|waits_for| self.held <= *waits_for).is_some()
            }
            Source::Node { .. } | Source::Nobody => false,
        }
    }

    /// The call is over. Gives the session that was charged for it, and whether it waited.
    pub(super) fn close(&mut self) -> Option<(SessionKey, bool)> {
        self.is_closed = true;
        match self.source {
            Source::Session { session, waits_for } => {
                self.source = Source::Nobody;
                Some((session, waits_for.is_some()))
            }
            Source::Node { .. } | Source::Nobody => None,
        }
    }

    /// `taken` more is due to the node it comes from. Gives what to give back there now: in portions that are worth a frame.
    pub(super) fn give_back(&mut self, taken: usize) -> Option<(LinkKey, u64, usize)> {
        let Source::Node {
            link,
            number,
            due,
            has_given,
            ..
        } = &mut self.source
        else {
            return None;
        };
        *due += taken;
        let is_worth = *due >= PORTION || self.is_closed || !*has_given;
        if *due == 0 || !is_worth {
            return None;
        }
        *has_given = true;
        Some((*link, *number, std::mem::take(due)))
    }

    /// True: something is due from now on, and the ledger did not know.
    pub(super) fn begins_to_lag(&mut self) -> bool {
        match &mut self.source {
            Source::Node { due, is_lagging, .. } => *due > 0 && !std::mem::replace(is_lagging, true),
            Source::Session { .. } | Source::Nobody => false,
        }
    }

    /// Gives what is due, however little.
    pub(super) fn give_back_rest(&mut self) -> Option<(LinkKey, u64, usize)> {
        let Source::Node {
            link,
            number,
            due,
            is_lagging,
            ..
        } = &mut self.source
        else {
            return None;
        };
        *is_lagging = false;
        (*due > 0).then(|| (*link, *number, std::mem::take(due)))
    }

    /// Its last message has come: the node that it comes from has forgotten it, and waits for no window.
    pub(super) fn note_last(&mut self) {
        if matches!(self.source, Source::Node { .. }) {
            self.source = Source::Nobody;
        }
    }

    /// What of it is a debt.
    pub(super) fn owed(&self) -> usize {
        self.debt.map_or(0, |debt| debt.amount)
    }

    /// Whether nothing will come of it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.is_closed && self.held == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(way: Way) -> Flow {
        Flow::new(way, End::Session(Key::none(), 1), false)
    }

    #[test]
    fn a_source_waits_from_a_whole_window_to_half_of_one() {
        let mut flow = flow(Way::Up);
        assert!(!flow.charge(WINDOW - 1, false));
        assert!(flow.charge(100, false));
        assert!(!flow.charge(100, false), "it waits once");
        flow.release(1000);
        assert!(!flow.wake());
        flow.release(WINDOW / 2);
        assert!(flow.wake());
    }

    #[test]
    fn a_source_that_sends_to_a_full_session_waits_until_half_of_it_is_taken() {
        let mut flow = flow(Way::Up);
        assert!(!flow.charge(60, false));
        assert!(flow.charge(40, true));
        flow.release(49);
        assert!(!flow.wake());
        flow.release(1);
        assert!(flow.wake());
        assert!(flow.charge(0, true), "it is still full");
        flow.release(50);
        assert!(flow.wake());
    }

    #[test]
    fn a_closed_flow_is_gone_when_nothing_of_it_is_held() {
        let mut flow = flow(Way::Down);
        flow.charge(10, false);
        let (session, side) = (Key::none(), Side::Receive);
        let debt = |amount| Debt {
            session,
            side,
            amount,
        };
        (flow.is_closed, flow.debt) = (true, Some(debt(10)));
        assert_eq!((flow.release(4), flow.is_gone()), (Some(debt(4)), false));
        assert_eq!((flow.release(6), flow.is_gone()), (Some(debt(6)), true));
    }
}
