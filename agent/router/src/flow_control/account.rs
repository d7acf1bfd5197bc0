//! One session's account: what its flows hold, what it owes, and whether it may send more.

use crate::flow_control::class::Class;
use crate::flow_control::room::SESSION_MAX;
use crate::flow_control::window::Side;

/// What a session sends beside its calls in progress and has not been taken: first messages of calls, chunks of calls that
/// are over. One that owes so much is not read.
pub(super) const SEND_DEBT_MAX: usize = 256 << 10;
/// Answers of calls that are over, which their caller has not taken. One that owes so much is not read.
const RECEIVE_DEBT_MAX: usize = 2 << 20;

/// One session's.
pub(super) struct Account {
    class: Class,
    /// Its flows without window.
    pub(super) waits: usize,
    /// What the flows hold that it sends.
    pub(super) held: usize,
    /// That was too much, and half of it is not taken yet.
    is_full: bool,
    pub(super) send_debt: usize,
    pub(super) receive_debt: usize,
}

impl Account {
    /// One that owes nothing.
    pub(super) fn new(class: Class) -> Account {
        Account {
            class,
            waits: 0,
            held: 0,
            is_full: false,
            send_debt: 0,
            receive_debt: 0,
        }
    }

    /// Whose it is.
    pub(super) fn class(&self) -> Class {
        self.class
    }

    /// Whether it may send more.
    pub(super) fn may_send(&self) -> bool {
        let owes_little = self.send_debt < SEND_DEBT_MAX && self.receive_debt < RECEIVE_DEBT_MAX;
        self.waits == 0 && owes_little && !self.is_full
    }

    /// Flows that it sends hold so much more, and so much less.
    pub(super) fn hold(&mut self, more: usize, less: usize) {
        debug_assert!(self.held + more >= less, "less is held than is released");
        self.held = (self.held + more).saturating_sub(less);
        let is_bounded = matches!(self.class, Class::Operators | Class::Users);
        if is_bounded && self.held >= SESSION_MAX {
            self.is_full = true;
        } else if self.held <= SESSION_MAX / 2 {
            self.is_full = false;
        }
    }

    /// It waits for one flow less.
    pub(super) fn end_wait(&mut self) {
        debug_assert!(self.waits > 0, "a wait ends that never began");
        self.waits = self.waits.saturating_sub(1);
    }

    /// What it owes.
    pub(super) fn debt(&mut self, side: Side) -> &mut usize {
        match side {
            Side::Send => &mut self.send_debt,
            Side::Receive => &mut self.receive_debt,
        }
    }
}
