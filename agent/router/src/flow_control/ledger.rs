//! Who pays for what is held: messages charged to their flows, and windows given back.

use pipes_wamp::router::{Charge, End, LinkKey, SessionKey, Way};

use crate::clients::connection::Connection;
use crate::flow_control::window::{Flow, FlowKey};
use crate::outbox::Net;

impl Net {
    /// Holds a message's cost against its flow; `over` is the link it leaves by.
    pub(crate) fn charge(
        &mut self,
        charge: Charge,
        cost: usize,
        over: Option<(LinkKey, u64)>,
    ) -> Option<FlowKey> {
        let Charge::Flow {
            call,
            way,
            opening,
            source,
        } = charge
        else {
            return None;
        };
        let key = self.flows.of(call, way, source);
        if matches!(source, End::Link(..)) {
            self.arriving = 0;
        }
        if self.flows.charge(key, cost)
            && let Some(connection) = self.source_connection(source)
        {
            connection.blocked_flows += 1;
        }
        let flow = self.flows.get_mut(key)?;
        if over.is_some() {
            flow.over = over;
            flow.used_over += cost;
        }
        if opening && let End::Session(session, _) = source {
            flow.in_account += cost;
            flow.account = Some(session);
            if let Some(connection) = self.source_connection(source) {
                connection.rest += cost;
            }
        }
        Some(key)
    }

    fn source_connection(&mut self, source: End) -> Option<&mut Connection> {
        let End::Session(session, _) = source else {
            return None;
        };
        let key = self.connection_of(session)?;
        self.connections.get_mut(key)
    }

    /// Something of a flow was taken, or thrown away: its source may go on.
    pub fn release(&mut self, key: FlowKey, cost: usize) {
        let Some(flow) = self.flows.get(key) else { return };
        let (source, way, account) = (flow.source, flow.way, flow.account);
        let released = self.flows.release(key, cost);
        if released.from_account > 0 {
            self.relieve(account, way, released.from_account);
        }
        if released.is_unblocked {
            self.unblock(source);
        }
        if let End::Link(link, number) = source {
            self.give_back(key, link, number, cost);
        }
        if released.is_gone {
            self.remove_flow(key);
        }
    }

    /// The same of what went over a link; more than is held there is not given back.
    pub fn release_over(&mut self, key: FlowKey, cost: usize) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        let cost = cost.min(flow.used_over);
        flow.used_over -= cost;
        self.release(key, cost);
    }

    fn relieve(&mut self, account: Option<SessionKey>, way: Way, cost: usize) {
        let Some(key) = account.and_then(|session| self.connection_of(session)) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(key) {
            let held = if way == Way::Up {
                &mut connection.rest
            } else {
                &mut connection.unread
            };
            *held = held.saturating_sub(cost);
        }
        self.queue(key);
    }

    fn unblock(&mut self, source: End) {
        let End::Session(session, _) = source else { return };
        let Some(key) = self.connection_of(session) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.blocked_flows = connection.blocked_flows.saturating_sub(1);
        }
        self.queue(key);
    }

    /// The far shard gets its window back, in portions that are worth a frame.
    fn give_back(&mut self, key: FlowKey, link: LinkKey, number: u64, cost: usize) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        flow.due += cost;
        let is_worth = flow.due >= Flow::PORTION || flow.is_closed || !flow.has_given;
        if flow.due == 0 || !is_worth {
            return;
        }
        let (due, way) = (std::mem::take(&mut flow.due), flow.way);
        flow.has_given = true;
        if let Some(link) = self.dirty_link(link) {
            link.give_back(number, way, due);
        }
    }

    pub(crate) fn remove_flow(&mut self, key: FlowKey) {
        if let Some(flow) = self.flows.remove(key)
            && let Some((link, number)) = flow.over
            && let Some(link) = self.link_mut(link)
            && link.windows.get(&(number, flow.way)) == Some(&key)
        {
            link.windows.remove(&(number, flow.way));
        }
    }

    /// A call is over: what is still held of its flow goes to its caller's account.
    pub(crate) fn close(&mut self, key: FlowKey, caller: End) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        let (source, way, over) = (flow.source, flow.way, flow.over);
        let was_blocked = std::mem::take(&mut flow.is_blocked);
        flow.is_closed = true;
        let is_caller_here = match caller {
            End::Session(session, _) => {
                flow.account = Some(session);
                true
            }
            End::Link(..) => false,
        };
        // The far shard's caller is charged there.
        let is_done = flow.used == 0 || (over.is_some() && way == Way::Down);
        let moved = if is_done || !is_caller_here {
            0
        } else {
            flow.used - flow.in_account
        };
        flow.in_account += moved;
        if was_blocked {
            self.unblock(source);
        }
        if moved > 0
            && let Some(connection) = self.source_connection(caller)
        {
            *(if way == Way::Up {
                &mut connection.rest
            } else {
                &mut connection.unread
            }) += moved;
        }
        if let End::Link(link, number) = source {
            self.give_back(key, link, number, 0);
        }
        if is_done {
            self.remove_flow(key);
        }
    }

    /// What is on its way over a link of a call's first chunks is given back to who pays for the call from now on.
    pub(crate) fn succeed(&mut self, former: FlowKey, key: FlowKey) {
        let held = self.flows.get(former).map_or(0, |flow| flow.used_over);
        if former == key || held == 0 {
            return;
        }
        self.release_over(former, held);
        if let Some(flow) = self.flows.get_mut(key) {
            flow.used += held;
            flow.used_over += held;
        }
    }

    /// A call is over whose bytes went to `heir`: what it has not taken of them is now an answer that it does not take, and
    /// their source may forget them.
    pub(crate) fn bequeath(&mut self, key: FlowKey, heir: SessionKey) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        let (source, held) = (flow.source, flow.used);
        let was_blocked = std::mem::take(&mut flow.is_blocked);
        flow.is_closed = true;
        if was_blocked {
            self.unblock(source);
        }
        if let End::Link(link, number) = source {
            self.give_back(key, link, number, held);
        }
        if held == 0 {
            return self.remove_flow(key);
        }
        let own = self.flows.get(key).map_or(0, |flow| flow.in_account);
        if own > 0
            && let Some(connection) = self.source_connection(source)
        {
            connection.rest = connection.rest.saturating_sub(own);
        }
        if let Some(flow) = self.flows.get_mut(key) {
            (flow.source, flow.way) = (End::Session(heir, 0), Way::Down);
            (flow.account, flow.in_account) = (Some(heir), held);
        }
        if let Some(connection) = self
            .connection_of(heir)
            .and_then(|key| self.connections.get_mut(key))
        {
            connection.unread += held;
        }
    }

    /// Gives everything back that a lost link's or connection's flows hold.
    pub fn release_all(&mut self, flows: impl IntoIterator<Item = FlowKey>) {
        for key in flows {
            let held = self.flows.get(key).map_or(0, |flow| flow.used_over);
            self.release_over(key, held);
        }
    }
}
