//! How a call is answered, given up and ended.

use super::splice::Splice;
use super::{Call, CallKey, Dealer, End, SessionKey, Violation};
use crate::error::uri;
use crate::message::{CancelMode, EMPTY_MAP, Message, Payload, kind};
use crate::router::PeerMessage;
use crate::router::outbox::{Charge, Ended, Outbox, Way};

/// Invocations of one session that nobody hears the answer of and that it was not told of; of more the oldest go on as
/// long as they like. As many as one caller may have calls.
const UNTOLD_MAX: usize = 10_000;

impl Dealer {
    pub(super) fn yielded(
        &mut self,
        from: SessionKey,
        request: u64,
        progress: bool,
        payload: Payload<'_>,
        out: &mut impl Outbox,
    ) -> Result<(), Violation> {
        let Some(call) = self.invocation(from, request)? else {
            self.answered_unheard(from, request, progress, out);
            return Ok(());
        };
        if progress && !self.calls.get(call).is_some_and(|call| call.receive_progress) {
            return Err(Violation(
                "a progressive result for a call that did not ask for one",
            ));
        }
        self.result(call, progress, payload, out);
        Ok(())
    }

    /// An answer, or a part of one, of which nobody hears: the callee is told so, once, if there may be more.
    fn answered_unheard(&mut self, from: SessionKey, request: u64, progress: bool, out: &mut impl Outbox) {
        let was_untold = self
            .session_mut(from)
            .is_some_and(|session| session.untold.remove(&request));
        if was_untold && progress {
            let (mode, reason) = (CancelMode::KillNoWait, Some(uri::CANCELED));
            let interrupt = Message::Interrupt {
                request,
                mode,
                reason,
            };
            out.to_session(from, Charge::Nobody, &interrupt);
        }
    }

    /// Passes a result on to the caller; the final one ends the call.
    pub(super) fn result(
        &mut self,
        key: CallKey,
        progress: bool,
        payload: Payload<'_>,
        out: &mut impl Outbox,
    ) {
        let Some(call) = self.calls.get(key) else { return };
        let charge = Charge::down(key, call.callee);
        match call.caller {
            End::Session(session, request) => {
                if let Err(error) = out.takes(session, payload.bytes.len(), progress) {
                    return self.give_up(key, error, out);
                }
                out.to_session(
                    session,
                    charge,
                    &Message::Result {
                        request,
                        progress,
                        payload,
                    },
                );
            }
            End::Link(link, number) => out.to_link(
                link,
                charge,
                &PeerMessage::Result {
                    number,
                    progress,
                    payload,
                },
            ),
        }
        if !progress {
            self.finish(key, out);
        }
    }

    pub(super) fn callee_error(
        &mut self,
        from: SessionKey,
        (kind, request): (u64, u64),
        details: &[u8],
        error: &str,
        payload: Payload<'_>,
        out: &mut impl Outbox,
    ) -> Result<(), Violation> {
        if kind != kind::INVOCATION {
            return Err(Violation("an ERROR for something else than an invocation"));
        }
        let Some(call) = self.invocation(from, request)? else {
            self.answered_unheard(from, request, false, out);
            return Ok(());
        };
        // Not a URI: the call ends all the same, under a name that is one.
        let error = if crate::uri::is_loose(error) {
            error
        } else {
            uri::INVALID_URI
        };
        self.error(call, details, error, payload, out);
        Ok(())
    }

    /// Passes an error on to the caller, which ends the call.
    pub(super) fn error(
        &mut self,
        key: CallKey,
        details: &[u8],
        error: &str,
        payload: Payload<'_>,
        out: &mut impl Outbox,
    ) {
        self.send_error(key, details, error, payload, out);
        self.finish(key, out);
    }

    fn send_error(
        &mut self,
        key: CallKey,
        details: &[u8],
        error: &str,
        payload: Payload<'_>,
        out: &mut impl Outbox,
    ) {
        let Some(call) = self.calls.get(key) else { return };
        let charge = Charge::down(key, call.callee);
        match call.caller {
            End::Session(session, request) => {
                let taken = out.takes(session, details.len() + payload.bytes.len(), false);
                let (details, payload) = if taken.is_ok() {
                    (details, payload)
                } else {
                    (EMPTY_MAP, Payload::EMPTY)
                };
                let message = Message::Error {
                    kind: kind::CALL,
                    request,
                    details,
                    error,
                    payload,
                };
                out.to_session(session, charge, &message);
            }
            End::Link(link, number) => {
                out.to_link(
                    link,
                    charge,
                    &PeerMessage::Error {
                        number,
                        details,
                        error,
                        payload,
                    },
                );
            }
        }
    }

    /// The call a session answers; `None`: it is over. A number it was never given ends the session.
    fn invocation(&self, from: SessionKey, request: u64) -> Result<Option<CallKey>, Violation> {
        let Some(session) = self.session(from) else {
            return Ok(None);
        };
        match session.invocations.get(&request) {
            Some(call) => Ok(Some(*call)),
            None if (1..=session.last_given).contains(&request) => Ok(None),
            None => Err(Violation("an answer to an invocation that was never given")),
        }
    }

    pub(super) fn cancel(
        &mut self,
        from: SessionKey,
        request: u64,
        mode: CancelMode,
        out: &mut impl Outbox,
    ) -> Result<(), Violation> {
        let Some(session) = self.session(from) else {
            return Ok(());
        };
        match session.calls.get(&request) {
            Some(call) => self.cancel_call(*call, mode, out),
            None if request <= session.last_call => {}
            None => return Err(Violation("a CANCEL of a call that never was")),
        }
        Ok(())
    }

    /// The caller gives a call up; it is answered here unless it waits for the callee's own answer.
    pub(super) fn cancel_call(&mut self, key: CallKey, mode: CancelMode, out: &mut impl Outbox) {
        let Some(call) = self.calls.get(key) else { return };
        let mode = if self.can_be_interrupted(call) {
            mode
        } else {
            CancelMode::Skip
        };
        match mode {
            CancelMode::Kill if call.interrupted => {}
            CancelMode::Kill => {
                self.interrupt(key, mode, out);
                if let Some(call) = self.calls.get_mut(key) {
                    call.interrupted = true;
                }
            }
            CancelMode::Skip | CancelMode::KillNoWait => {
                self.interrupt(key, mode, out);
                self.fail(key, uri::CANCELED, out);
            }
        }
    }

    fn can_be_interrupted(&self, call: &Call) -> bool {
        match call.callee {
            End::Session(session, _) => self
                .session(session)
                .is_some_and(|session| session.features.callee.canceling),
            // The other node knows its callee.
            End::Link(..) => true,
        }
    }

    /// Tells the callee; the chunks that still wait for it are thrown away.
    fn interrupt(&mut self, key: CallKey, mode: CancelMode, out: &mut impl Outbox) {
        let Some(call) = self.calls.get(key) else { return };
        out.discard(key, Way::Up);
        match call.callee {
            End::Session(session, request) if mode != CancelMode::Skip && self.can_be_interrupted(call) => {
                let reason = Some(uri::CANCELED);
                out.to_session(
                    session,
                    Charge::Nobody,
                    &Message::Interrupt {
                        request,
                        mode,
                        reason,
                    },
                );
            }
            End::Session(..) => self.leave_untold(key),
            End::Link(link, number) => {
                let charge = Charge::up(key, call.caller);
                out.to_link(link, charge, &PeerMessage::Cancel { number, mode });
            }
        }
    }

    /// A call ends of whose end its callee is not told. One that may send progressive results is told at the first of them,
    /// or it would work for nobody for as long as it likes.
    fn leave_untold(&mut self, key: CallKey) {
        let Some(call) = self.calls.get(key) else { return };
        let (callee, may_go_on) = (
            call.callee,
            call.receive_progress && self.can_be_interrupted(call),
        );
        if let (End::Session(session, request), true) = (callee, may_go_on)
            && let Some(session) = self.session_mut(session)
        {
            session.untold.insert(request);
            if session.untold.len() > UNTOLD_MAX {
                session.untold.pop_first();
            }
        }
    }

    /// Nobody waits for the answer any more.
    pub(super) fn caller_left(&mut self, key: CallKey, out: &mut impl Outbox) {
        self.interrupt(key, CancelMode::KillNoWait, out);
        out.discard(key, Way::Down);
        self.finish(key, out);
    }

    /// The caller's node has answered it and drops what comes: neither end is told.
    pub(super) fn forget_unheard(&mut self, key: CallKey, out: &mut impl Outbox) {
        out.discard(key, Way::Down);
        self.leave_untold(key);
        self.finish(key, out);
    }

    /// The callee is gone, or nothing will come from it: the caller is told so.
    pub(super) fn fail(&mut self, key: CallKey, error: &str, out: &mut impl Outbox) {
        self.error(key, EMPTY_MAP, error, Payload::EMPTY, out);
    }

    /// The router itself ends a call: both ends are told.
    pub(super) fn give_up(&mut self, key: CallKey, error: &str, out: &mut impl Outbox) {
        self.interrupt(key, CancelMode::KillNoWait, out);
        self.fail(key, error, out);
    }

    pub(super) fn time_out(&mut self, key: CallKey, out: &mut impl Outbox) {
        self.give_up(key, uri::TIMEOUT, out);
    }

    /// Forgets a call under both its ends.
    fn finish(&mut self, key: CallKey, out: &mut impl Outbox) {
        let Some(call) = self.calls.remove(key) else {
            return;
        };
        for (end, is_caller) in [(call.caller, true), (call.callee, false)] {
            match end {
                End::Session(session, request) => {
                    let Some(session) = self.session_mut(session) else {
                        continue;
                    };
                    let known = if is_caller {
                        &mut session.calls
                    } else {
                        &mut session.invocations
                    };
                    known.remove(&request);
                }
                End::Link(link, number) => {
                    let Some(link) = self.links.get_mut(link) else {
                        continue;
                    };
                    let known = if is_caller {
                        &mut link.theirs
                    } else {
                        &mut link.ours
                    };
                    known.remove(&number);
                }
            }
        }
        if let (Some(grant), End::Session(session, _)) = (&call.grant, call.callee) {
            self.take_back(session, grant);
        }
        out.ended(Ended {
            call: key,
            caller: call.caller,
            callee: call.callee,
            spliced_to: call.spliced_onto.and_then(Splice::taker),
        });
    }

    fn take_back(&mut self, session: SessionKey, grant: &str) {
        let Some(session) = self.session_mut(session) else {
            return;
        };
        if let Some(count) = session.grants.get_mut(grant) {
            *count -= 1;
            if *count == 0 {
                session.grants.remove(grant);
            }
        }
    }
}
