//! What comes over a link: calls from another node, and answers to ours.

use foldhash::{HashMap, HashMapExt};

use super::calls::Opening;
use super::{CallKey, Dealer, End, Link, LinkKey, Violation};
use crate::error::uri;
use crate::message::{CancelMode, EMPTY_MAP, Payload};
use crate::router::PeerMessage;
use crate::router::outbox::{Charge, Outbox, Way};

impl Dealer {
    /// A link to node `peer` is there. An earlier one must have been lost before.
    pub fn add_link(&mut self, peer: u64) -> LinkKey {
        let link = Link {
            peer,
            next_number: 0,
            ours: HashMap::new(),
            theirs: HashMap::new(),
        };
        let key = self.links.insert(link);
        self.peers.insert(peer, key);
        key
    }

    /// A link is lost: every call that crossed it ends, and what its node had registered takes none any more.
    pub fn link_lost(&mut self, key: LinkKey, out: &mut impl Outbox) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let in_order = |calls: &mut HashMap<u64, CallKey>| {
            let mut calls: Vec<_> = calls.drain().collect();
            calls.sort_unstable();
            calls
        };
        let (ours, theirs) = (in_order(&mut link.ours), in_order(&mut link.theirs));
        if self.peers.get(&link.peer) == Some(&key) {
            let peer = link.peer;
            self.peers.remove(&peer);
        }
        self.links.remove(key);
        for realm in self.realms.values_mut() {
            realm.link_lost();
        }
        for (_, call) in ours {
            self.fail(call, uri::NETWORK_FAILURE, out);
        }
        for (_, call) in theirs {
            self.caller_left(call, out);
        }
    }

    /// The call that a message from another node is about, if it lives.
    fn call_of(&self, link: LinkKey, message: &PeerMessage<'_>) -> Option<CallKey> {
        let link = self.links.get(link)?;
        let calls = match message {
            PeerMessage::Result { .. } | PeerMessage::Error { .. } => &link.ours,
            _ => &link.theirs,
        };
        calls.get(&message.number()).copied()
    }

    /// Whether anything would come of such a message.
    pub fn expects(&self, link: LinkKey, message: &PeerMessage<'_>) -> bool {
        matches!(message, PeerMessage::Call { .. }) || self.call_of(link, message).is_some()
    }

    /// One message about a call from another node. True: it was passed on, and takes the window it came by. An error is
    /// that node's fault: the link is to be lost.
    pub fn receive_from_peer(
        &mut self,
        link: LinkKey,
        message: &PeerMessage<'_>,
        out: &mut impl Outbox,
    ) -> Result<bool, Violation> {
        if self.links.get(link).is_none() {
            return Ok(false);
        }
        let number = message.number();
        match (*message, self.call_of(link, message)) {
            (PeerMessage::Call { .. }, Some(_)) => return Err(Violation("a number of a call used twice")),
            (
                PeerMessage::Call {
                    realm,
                    procedure,
                    progress,
                    receive_progress,
                    caller,
                    grant,
                    payload,
                    ..
                },
                None,
            ) => {
                let caller_end = End::Link(link, number);
                let opening = Opening {
                    caller: caller_end,
                    realm,
                    procedure,
                    progress,
                    receive_progress,
                    disclosed: caller,
                    token: None,
                    grant,
                    payload,
                };
                let opened = match self.registration_here(realm, procedure) {
                    Some(registration) => self.open_here(registration, &opening, out).map(drop),
                    None => Err(uri::NO_SUCH_PROCEDURE),
                };
                if let Err(error) = opened {
                    let (details, payload) = (EMPTY_MAP, Payload::EMPTY);
                    out.to_link(
                        link,
                        Charge::Nobody,
                        &PeerMessage::Error {
                            number,
                            details,
                            error,
                            payload,
                        },
                    );
                }
                return Ok(opened.is_ok());
            }
            (
                PeerMessage::Chunk {
                    progress, payload, ..
                },
                Some(call),
            ) => return self.chunk(call, progress, payload, out),
            (
                PeerMessage::Result {
                    progress, payload, ..
                },
                Some(call),
            ) => {
                if !progress {
                    out.discard(call, Way::Up);
                }
                self.result(call, progress, payload, out);
                return Ok(true);
            }
            (
                PeerMessage::Error {
                    details,
                    error,
                    payload,
                    ..
                },
                Some(call),
            ) => {
                out.discard(call, Way::Up);
                self.error(call, details, error, payload, out);
                return Ok(true);
            }
            (PeerMessage::Cancel { mode, .. }, Some(call)) => self.far_caller_cancels(call, mode, out),
            // The call is over at this side already.
            (_, None) => {}
        }
        Ok(false)
    }

    fn far_caller_cancels(&mut self, call: CallKey, mode: CancelMode, out: &mut impl Outbox) {
        match mode {
            // Its own node has answered it: nobody waits.
            CancelMode::KillNoWait => self.caller_left(call, out),
            CancelMode::Skip => self.forget_unheard(call, out),
            CancelMode::Kill => self.cancel_call(call, mode, out),
        }
    }

    /// Another node has registered a procedure. False: it is this one's, and is to be refused there
    /// ([`Dealer::refused_by_peer`]) before anything is confirmed. Of two that nobody has confirmed yet the one of the
    /// lower node stays; the other gives way, as it does where it is refused.
    pub fn far_registered(
        &mut self,
        link: LinkKey,
        realm: &str,
        procedure: &str,
        out: &mut impl Outbox,
    ) -> bool {
        let Some(peer) = self.links.get(link).map(|link| link.peer) else {
            return true;
        };
        let Some(realm) = self.realms.get_mut(realm) else {
            return true;
        };
        realm.insert_far(procedure, link);
        let Some(local) = realm.local(procedure) else {
            return true;
        };
        let entry = self.registrations.get(&local);
        match entry.filter(|entry| self.is_there(entry.callee)) {
            Some(entry) if entry.confirmed || self.node < peer => false,
            Some(_) => {
                self.give_way(local, out);
                true
            }
            // Its session is gone.
            None => true,
        }
    }

    /// Another node has it no more.
    pub fn far_withdrew(&mut self, link: LinkKey, realm: &str, procedure: &str) {
        if let Some(realm) = self.realms.get_mut(realm) {
            realm.remove_far(procedure, link);
        }
    }

    /// Another node has what this one is about to register.
    pub fn refused_by_peer(&mut self, realm: &str, procedure: &str, out: &mut impl Outbox) {
        let local = self.realms.get(realm).and_then(|realm| realm.local(procedure));
        let waits = |id: &u64| self.registrations.get(id).is_some_and(|entry| !entry.confirmed);
        // One that was confirmed, since that node was silent for long, stays as it is: its session was told so.
        if let Some(local) = local.filter(waits) {
            self.give_way(local, out);
        }
    }
}
