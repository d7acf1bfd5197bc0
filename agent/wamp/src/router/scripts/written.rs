//! An outbox that writes down.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::shown;
use crate::error::uri;
use crate::message::{Message, kind};
use crate::router::{CallKey, Charge, End, Ended, LinkKey, Outbox, PeerMessage, SessionKey, Way};

/// What was sent, and the names of those it was sent to.
#[derive(Default)]
pub struct Written {
    pub sessions: BTreeMap<String, SessionKey>,
    pub links: BTreeMap<String, LinkKey>,
    lines: String,
    fresh: usize,
}

impl Written {
    pub fn note(&mut self, line: String) {
        self.lines += &line;
        self.lines.push('\n');
    }

    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.lines)
    }

    fn link(&self, key: LinkKey) -> String {
        self.links
            .iter()
            .find(|(_, other)| **other == key)
            .map_or("nobody".into(), |(name, _)| name.clone())
    }
}

/// The bytes that a payload goes on with.
fn followed(rest: &[u8]) -> String {
    let bytes = [&[0x91], rest].concat();
    let payload = crate::message::Payload {
        parts: 1,
        bytes: &bytes,
    };
    if rest.is_empty() {
        String::new()
    } else {
        format!(" and then{}", shown(payload))
    }
}

fn flag(is_set: bool, name: &str) -> String {
    if is_set { format!(" {name}") } else { String::new() }
}

impl Outbox for Written {
    fn to_session_followed(&mut self, session: SessionKey, _: Charge, message: &Message<'_>, rest: &[u8]) {
        let Some((name, _)) = self.sessions.iter().find(|(_, other)| **other == session) else {
            return;
        };
        let what = match *message {
            Message::Registered {
                request,
                registration,
            } => format!("REGISTERED {request} as {registration}"),
            Message::Unregistered { request } => format!("UNREGISTERED {request}"),
            Message::Invocation {
                request,
                registration,
                details,
                payload,
            } => format!(
                "INVOCATION {request} of {registration}{}{}{}{}",
                flag(details.progress, "progress"),
                flag(details.receive_progress, "receive_progress"),
                details
                    .caller
                    .map_or(String::new(), |caller| format!(" caller={caller}")),
                shown(payload)
            ),
            Message::Result {
                request,
                progress,
                payload,
            } => {
                format!("RESULT {request}{}{}", flag(progress, "progress"), shown(payload))
            }
            Message::Interrupt { request, mode, .. } => format!("INTERRUPT {request} {}", mode.name()),
            Message::Error {
                kind,
                request,
                error,
                payload,
                ..
            } => {
                let of = match kind {
                    kind::CALL => "CALL",
                    kind::REGISTER => "REGISTER",
                    kind::UNREGISTER => "UNREGISTER",
                    _ => "?",
                };
                format!("ERROR {of} {request} {error}{}", shown(payload))
            }
            Message::Goodbye { reason, .. } => format!("GOODBYE {reason}"),
            ref other => format!("{other:?}"),
        };
        let line = format!("-> {name} {what}{}", followed(rest));
        self.note(line);
    }

    fn to_link(&mut self, link: LinkKey, _: Charge, message: &PeerMessage<'_>) {
        let what = match *message {
            PeerMessage::Call {
                number,
                realm,
                procedure,
                progress,
                receive_progress,
                grant,
                payload,
                ..
            } => format!(
                "call {number} {realm} {procedure}{}{}{}{}",
                flag(progress, "progress"),
                flag(receive_progress, "receive_progress"),
                grant.map_or(String::new(), |grant| format!(" grant={grant}")),
                shown(payload)
            ),
            PeerMessage::Chunk {
                number,
                progress,
                payload,
            } => {
                format!("chunk {number}{}{}", flag(progress, "progress"), shown(payload))
            }
            PeerMessage::Result {
                number,
                progress,
                payload,
            } => {
                format!("result {number}{}{}", flag(progress, "progress"), shown(payload))
            }
            PeerMessage::Error {
                number,
                error,
                payload,
                ..
            } => format!("error {number} {error}{}", shown(payload)),
            PeerMessage::Cancel { number, mode } => format!("cancel {number} {}", mode.name()),
        };
        let line = format!("=> {} {what}", self.link(link));
        self.note(line);
    }

    fn takes(&mut self, _: SessionKey, payload: usize, _: bool) -> Result<(), &'static str> {
        let fits = payload < 100;
        fits.then_some(()).ok_or(uri::PAYLOAD_SIZE_EXCEEDED)
    }

    fn discard(&mut self, _: CallKey, _: Way) {}

    fn ended(&mut self, ended: Ended) {
        if let (End::Link(..), End::Link(..)) = (ended.caller, ended.callee) {
            self.note("a call passed through".into());
        }
    }

    fn fresh(&mut self, _: u32, session: SessionKey) -> Option<u64> {
        self.fresh += 1;
        if self.fresh > 2 {
            return None;
        }
        self.sessions.insert(format!("f{}", self.fresh), session);
        Some(self.fresh as u64)
    }

    fn announce(&mut self, registration: u64, realm: &Arc<str>, procedure: &Arc<str>) -> bool {
        let is_told = !self.links.is_empty();
        if is_told {
            self.note(format!("=> all add {registration} {realm} {procedure}"));
        }
        is_told
    }

    fn withdraw(&mut self, registration: u64, realm: &str, procedure: &str) {
        if !self.links.is_empty() {
            self.note(format!("=> all remove {registration} {realm} {procedure}"));
        }
    }
}
