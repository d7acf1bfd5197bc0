//! A watch: every change of a range from a revision on, in order, each once.
//!
//! On a node with a replica it is a watch on the own state (`state/watch.rs`). A node without one asks any member by
//! long poll, from the revision it has come to: so it misses and repeats nothing, whichever member answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::routing::Routing;
use crate::consensus::agreement::Agreement;
use crate::mvcc::Scope;
use crate::rpc::{ClientRequest, ClientResponse};
use crate::state::watch::LocalWatch;
use crate::{Error, Event};

/// Time a member keeps a poll without a change.
const POLL: Duration = Duration::from_secs(10);
/// Time an answer may take beyond that.
const POLL_MARGIN: Duration = Duration::from_secs(2);

/// Tells changes one by one. A watch that is dropped is over.
pub struct Watch {
    routing: Arc<Routing>,
    scope: Scope,
    /// The next revision of interest; 0 is "now", not yet known.
    next: i64,
    ready: VecDeque<Event>,
    /// Of the own state, with whether that is right.
    local: Option<(Arc<Agreement>, LocalWatch)>,
}

impl Watch {
    pub(super) fn new(routing: Arc<Routing>, scope: Scope, from: i64) -> Watch {
        let mut watch = Watch {
            routing,
            scope,
            next: from.max(0),
            ready: VecDeque::new(),
            local: None,
        };
        if watch.next == 0
            && let Some(replica) = watch.routing.peers.replica()
        {
            watch.next = replica.state.revisions().0 + 1;
        }
        watch
    }

    /// The next change; cancel safe. [`Error::Compacted`] ends it: list anew and watch from there.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let (events, next) = self.batch().await?;
            self.ready.extend(events);
            self.next = next;
        }
    }

    /// The events that come next, and the revision after them. Changes nothing that a cancelled call would lose.
    async fn batch(&mut self) -> Result<(Vec<Event>, i64), Error> {
        if self.local.is_none()
            && let Some(replica) = self.routing.peers.replica()
        {
            if self.next == 0 {
                self.next = replica.state.revisions().0 + 1;
            }
            let watch = LocalWatch::new(replica.state.clone(), self.scope.clone(), self.next);
            self.local = Some((replica.agreement.clone(), watch));
        }
        if let Some((agreement, local)) = &mut self.local {
            match local.batch().await {
                Ok(events) => return Ok((events, local.next_revision())),
                Err(Error::Stopped) if !self.routing.stop.is_cancelled() => {
                    let next = local.next_revision();
                    let is_odd = agreement.is_odd();
                    self.local = None;
                    // What was told of a state that was wrong may be as wrong, and where it stood is no place in the others'
                    // history. Of a store that ended it was right, and goes on elsewhere.
                    if is_odd {
                        return Err(Error::Compacted { revision: next });
                    }
                    self.next = next;
                }
                Err(error) => return Err(error),
            }
        }
        let request = ClientRequest::Watch {
            key: self.scope.key.clone(),
            end: self.scope.end.clone(),
            from: self.next,
        };
        let patience = POLL + POLL_MARGIN;
        loop {
            match self
                .routing
                .ask_any(request.clone(), Instant::now() + patience, POLL)
                .await
            {
                Ok(ClientResponse::Events(events, next)) => return Ok((events, next)),
                Ok(_) => return Err(Error::Corrupt("a peer answered something else to a watch".into())),
                Err(error) if error.may_retry() => {}
                Err(error) => return Err(error),
            }
        }
    }
}
