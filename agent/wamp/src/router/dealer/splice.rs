//! Two calls spliced into one: bytes of the first go on past its callee, as bytes of the second.
//!
//! A session of the agent itself that would only pass chunks of bytes from one call to another asks the dealer to do so:
//!
//! ```text
//! caller --[bytes]--> call 1 --(callee)--> call 2 --[bytes]--> its callee         as chunks
//! caller --[bytes]--> call 1 --(callee)--> call 2 --[number, bytes]--> its caller as progressive results
//! ```
//!
//! The callee still gets keyword arguments, all that is not one argument of bytes, the final chunk, and its INTERRUPT; it
//! answers both calls. A byte so spared costs two fewer copies through the kernel each way and no wake of another thread.
//!
//! Always: (1) the first call pays: what goes on takes its window, so that its caller waits when the far end does; (2) so
//! does what the callee itself sends on the second, which is to be little: its end, mostly; (3) bytes for a call that is
//! over are dropped: nobody takes them, as with any chunk that comes late; (4) bytes keep their order, with keyword
//! arguments beside some of them too.

use super::{CallKey, Dealer, End, SessionKey};
use crate::message::{InvocationDetails, Message, Payload};
use crate::router::outbox::{Charge, Outbox};
use crate::scan::Scan;

/// A call, as a session of the agent itself names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// The session's id.
    pub session: u64,
    /// Its request: of a CALL that it made, or an INVOCATION that it was given.
    pub request: u64,
}

/// What bytes become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// Chunks of a call that the session makes.
    Call(Own),
    /// Progressive results of a call that it answers, behind this number (up to 127).
    Answer(Own, u8),
}

/// A splice; both calls hold it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Splice {
    /// The call whose bytes go on.
    pub payer: CallKey,
    /// Who makes that call, and waits when its window is used up.
    caller: End,
    target: Target,
}

/// What bytes become.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// Chunks of this call.
    Chunks(CallKey),
    /// Results for this caller and its request, behind a number.
    Results(SessionKey, u64, u8),
}

impl Splice {
    /// Whose window its bytes take.
    pub fn charge(self) -> Charge {
        Charge::up(self.payer, self.caller)
    }

    /// The session that takes the bytes as results.
    pub fn taker(self) -> Option<SessionKey> {
        match self.target {
            Target::Results(session, ..) => Some(session),
            Target::Chunks(_) => None,
        }
    }
}

/// A payload of one argument of bytes, and the keyword arguments behind it; `None` for any other.
pub(super) fn split(payload: Payload<'_>) -> Option<(Payload<'_>, &[u8])> {
    if payload.parts == 0 || !matches!(payload.bytes, [0x91, 0xc4..=0xc6, ..]) {
        return None;
    }
    let mut scan = Scan::new(payload.bytes);
    scan.skip().ok()?;
    let (bytes, keywords) = payload.bytes.split_at(payload.bytes.len() - scan.rest().len());
    Some((Payload { parts: 1, bytes }, keywords))
}

impl Dealer {
    /// From now on the bytes of a call that is answered by `from` go on. False: one of the two calls is over.
    pub fn splice(&mut self, from: Own, onto: Onto) -> bool {
        self.spliced(from, onto).is_some()
    }

    fn spliced(&mut self, from: Own, onto: Onto) -> Option<()> {
        let (answered, made) = (true, false);
        let payer = self.own(from, answered)?;
        let target = match onto {
            Onto::Call(own) => Target::Chunks(self.own(own, made)?),
            Onto::Answer(own, number) => match self.calls.get(self.own(own, answered)?)?.caller {
                End::Session(session, request) => Target::Results(session, request, number),
                // Another node's caller is answered by the callee itself.
                End::Link(..) => return None,
            },
        };
        let first = self.calls.get_mut(payer)?;
        let caller = first.caller;
        let splice = Splice {
            payer,
            caller,
            target,
        };
        first.spliced_onto = Some(splice);
        if let Target::Chunks(second) = target {
            self.calls.get_mut(second)?.spliced_from = Some(splice);
        }
        Some(())
    }

    fn own(&self, own: Own, is_answered: bool) -> Option<CallKey> {
        let session = self.session(*self.own.get(&own.session)?)?;
        let known = if is_answered {
            &session.invocations
        } else {
            &session.calls
        };
        known.get(&own.request).copied()
    }

    /// Sends a chunk of bytes where it goes on. False: nobody takes it.
    pub(super) fn pass_on(&mut self, splice: Splice, payload: Payload<'_>, out: &mut impl Outbox) -> bool {
        let charge = splice.charge();
        match splice.target {
            // A call that has had its final chunk takes no more.
            Target::Chunks(target) if self.calls.get(target).is_some_and(|call| call.more) => {
                self.send_chunk(target, charge, true, payload, out)
            }
            Target::Chunks(_) => false,
            Target::Results(session, request, number) => {
                let awaited = self
                    .session(session)
                    .and_then(|session| session.calls.get(&request));
                let Some(target) = awaited.copied() else {
                    return false;
                };
                if let Err(error) = out.takes(session, payload.bytes.len() + 1, true) {
                    self.give_up(target, error, out);
                    return false;
                }
                let lead = [0x92, number];
                let result = Message::Result {
                    request,
                    progress: true,
                    payload: Payload {
                        parts: 1,
                        bytes: &lead,
                    },
                };
                out.to_session_followed(session, charge, &result, &payload.bytes[1..]);
                true
            }
        }
    }

    /// Gives the callee the keyword arguments of a chunk whose bytes went on. False: there are none, or no callee here.
    pub(super) fn keep_back(&mut self, key: CallKey, keywords: &[u8], out: &mut impl Outbox) -> bool {
        let Some(call) = self.calls.get(key).filter(|_| !keywords.is_empty()) else {
            return false;
        };
        let End::Session(session, request) = call.callee else {
            return false;
        };
        let charge = Charge::up(key, call.caller);
        let details = InvocationDetails {
            progress: true,
            receive_progress: call.receive_progress,
            ..InvocationDetails::default()
        };
        let invocation = Message::Invocation {
            request,
            registration: call.registration,
            details,
            payload: Payload {
                parts: 2,
                bytes: &[0x90],
            },
        };
        out.to_session_followed(session, charge, &invocation, keywords);
        true
    }
}
