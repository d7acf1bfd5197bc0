//! Calls whose bytes go on past their callee.
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
//! Always: (1) what goes on takes the window of the call it came by, so that its caller waits when the far end does;
//! (2) so does what the callee itself sends on a call that is fed, which is to be little: its end, mostly; (3) bytes for a
//! call that is over are dropped: nobody takes them, as with any chunk that comes late; (4) bytes keep their order, with
//! keyword arguments beside some of them too.

use super::{CallKey, Dealer, End, SessionKey};
use crate::error::uri;
use crate::message::{InvocationDetails, Message, Payload};
use crate::router::outbox::{Charge, Outbox, Way};
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

/// Where a call's bytes go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Onward {
    /// Into this call, as chunks.
    Chunk(CallKey),
    /// To this caller and its request, as results behind a number.
    Result(SessionKey, u64, u8),
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

impl super::Call {
    /// The session that takes its bytes as results of another call: what of them it has not taken when this call ends is
    /// its debt, and no more this call's caller's.
    pub fn heir(&self) -> Option<SessionKey> {
        match self.onward {
            Some(Onward::Result(session, ..)) => Some(session),
            _ => None,
        }
    }
}

impl Dealer {
    /// From now on the bytes of a call that is answered by `from` go on. False: one of the two calls is over.
    pub fn lead_on(&mut self, from: Own, onto: Onto) -> bool {
        let (answered, made) = (true, false);
        let Some(source) = self.own(from, answered) else {
            return false;
        };
        let onward = match onto {
            Onto::Call(own) => self.own(own, made).map(Onward::Chunk),
            Onto::Answer(own, number) => {
                let call = self.own(own, answered).and_then(|key| self.calls.get(key));
                match call.map(|call| call.caller) {
                    Some(End::Session(session, request)) => Some(Onward::Result(session, request, number)),
                    // Another shard's caller is answered by the callee itself.
                    Some(End::Link(..)) | None => None,
                }
            }
        };
        let Some(onward) = onward else { return false };
        if let Some(call) = self.calls.get_mut(source) {
            call.onward = Some(onward);
        }
        if let Onward::Chunk(target) = onward
            && let Some(call) = self.calls.get_mut(target)
        {
            call.fed_by = Some(source);
        }
        true
    }

    fn own(&self, own: Own, is_answered: bool) -> Option<CallKey> {
        let of_id = |(_, slot): &(SessionKey, &super::SessionSlot)| slot.0.id == own.session;
        let (_, slot) = self.sessions.iter().find(of_id)?;
        let known = if is_answered {
            &slot.0.invocations
        } else {
            &slot.0.calls
        };
        known.get(&own.request).copied()
    }

    /// Sends a chunk of bytes where it goes on.
    pub(super) fn pass_on(
        &mut self,
        key: CallKey,
        onward: Onward,
        payload: Payload<'_>,
        out: &mut impl Outbox,
    ) {
        let Some(source) = self.calls.get(key).map(|call| call.caller) else {
            return;
        };
        let charge = Charge::Flow {
            call: key,
            way: Way::Up,
            opening: false,
            source,
        };
        match onward {
            // A call that has had its final chunk takes no more.
            Onward::Chunk(target) if self.calls.get(target).is_some_and(|call| call.more) => {
                self.send_chunk(target, charge, true, payload, out);
            }
            Onward::Chunk(_) => {}
            Onward::Result(session, request, number) => {
                let awaited = self
                    .session(session)
                    .and_then(|session| session.calls.get(&request));
                if let Some(target) = awaited.copied() {
                    if !out.fits(session, payload.bytes.len() + 1) {
                        return self.give_up(target, uri::PAYLOAD_SIZE_EXCEEDED, out);
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
                }
            }
        }
    }

    /// Gives the callee the keyword arguments of a chunk whose bytes went on.
    pub(super) fn keep_back(&mut self, key: CallKey, keywords: &[u8], out: &mut impl Outbox) {
        let Some(call) = self.calls.get(key).filter(|_| !keywords.is_empty()) else {
            return;
        };
        let End::Session(session, request) = call.callee else {
            return;
        };
        let charge = Charge::Flow {
            call: key,
            way: Way::Up,
            opening: false,
            source: call.caller,
        };
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
    }
}
