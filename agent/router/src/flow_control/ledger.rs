//! The ledger: who pays for every byte that the router holds.
//!
//! | | is charged to | until |
//! |---|---|---|
//! | a message of a call | the call's flow in that direction (`window`), and all that its sender's flows hold | it is released: a socket took it, or it was thrown away |
//! | a call's first message | the same, and its caller's *send debt* | it is released |
//! | what is held of a call that is over | its caller's *send* or *receive debt*, who caused it (`transfer`) | it is released |
//! | the same, bytes spliced into another call's answers | that call's caller's *receive debt* | it is released |
//!
//! A session whose flow has no window, whose flows hold too much or that owes too much is not read: the ledger says when that
//! begins and ends ([`Effect`]), and the outbox does so. It knows no sockets.
//!
//! Always (the tests assert it): (1) a session's debts and what it is charged for are the sums of what its flows say, and it
//! waits once for each of its flows without window; (2) of what a flow holds, no more is a debt than is held, nor on its way over a link; (3) a flow
//! that is closed and holds nothing is gone; (4) what is on its way over a link is one flow's to pay.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt};
use pipes_wamp::router::{Arena, CallKey, Charge, End, Ended, LinkKey, SessionKey, Way};

use crate::flow_control::account::Account;
use crate::flow_control::class::Class;
use crate::flow_control::window::{Debt, Flow, FlowKey, Over, Side, Source};

/// What the outbox is to do about a change in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Read this session no more.
    Stop(SessionKey),
    /// Read it again.
    Resume(SessionKey),
    /// Give a part of a flow's window back to the node it comes from.
    GiveBack {
        link: LinkKey,
        number: u64,
        way: Way,
        bytes: usize,
    },
}

/// Sums over everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub flows: usize,
    pub held: usize,
    pub over_links: usize,
    pub debts: usize,
    pub waits: usize,
}

/// All flows, and all sessions' accounts.
#[derive(Default)]
pub(crate) struct Ledger {
    flows: Arena<Flow>,
    /// Of each call, by its slot: its generation, then its flows up and down.
    of_calls: Vec<(u32, [Option<FlowKey>; 2])>,
    /// Of each session, by its slot: its generation and its account.
    accounts: Vec<Option<(u32, Account)>>,
    /// Who pays for what is on its way over each link, by the link's slot and the call's number.
    over: Vec<HashMap<(u64, Way), FlowKey>>,
    /// What is on its way over links of users' sessions.
    users_over: usize,
    /// Flows of which something was taken that is not given back yet.
    lagging: Vec<FlowKey>,
    effects: VecDeque<Effect>,
}

impl Ledger {
    /// Opens the account of a session that joined.
    pub fn open(&mut self, session: SessionKey, class: Class) {
        if self.accounts.len() <= session.index() {
            self.accounts.resize_with(session.index() + 1, || None);
        }
        self.accounts[session.index()] = Some((session.generation(), Account::new(class)));
    }

    /// Closes the account of one that left; its flows live until they are released.
    pub fn close(&mut self, session: SessionKey) {
        if self.account(session).is_some() {
            self.accounts[session.index()] = None;
        }
    }

    /// Holds a message's cost against its flow; `over` is the link it leaves by, and its call's number there. `is_full`: who
    /// takes it has no room for more.
    pub fn charge(
        &mut self,
        charge: Charge,
        cost: usize,
        over: Option<(LinkKey, u64)>,
        is_full: bool,
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
        let key = self.flow_of(call, way, source);
        let flow = self.flows.get_mut(key)?;
        // Room at other nodes is theirs: what waits for them is bounded for users' realms alone.
        let begins_to_wait = flow.charge(cost, is_full && (over.is_none() || flow.is_users));
        let sender = flow.sender();
        if let (true, Some(session)) = (opening, sender) {
            let amount = flow.owed() + cost;
            flow.debt = Some(Debt {
                session,
                side: Side::Send,
                amount,
            });
        }
        if let Some(session) = sender {
            self.change(session, |account| {
                account.hold(cost, 0);
                account.send_debt += if opening { cost } else { 0 };
                account.waits += usize::from(begins_to_wait);
            });
        }
        if let Some((link, number)) = over {
            self.charge_over(key, link, number, cost);
        }
        Some(key)
    }

    /// A flow's last message was charged.
    pub fn note_last(&mut self, key: FlowKey) {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.note_last();
        }
    }

    fn charge_over(&mut self, key: FlowKey, link: LinkKey, number: u64, cost: usize) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        let held = flow.over.as_ref().map_or(0, |over| over.held) + cost;
        flow.over = Some(Over { link, number, held });
        let (way, is_users) = (flow.way, flow.is_users);
        self.users_over += if is_users { cost } else { 0 };
        if self.over.len() <= link.index() {
            self.over.resize_with(link.index() + 1, HashMap::new);
        }
        if let Some(former) = self.over[link.index()].insert((number, way), key) {
            self.transfer_over(former, key);
        }
    }

    /// Something of a flow was taken, or thrown away: its source may go on.
    pub fn release(&mut self, key: FlowKey, cost: usize) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        let (before, sender, way) = (flow.held, flow.sender(), flow.way);
        let (paid, is_woken) = (flow.release(cost), flow.wake());
        let released = before - flow.held;
        let (due, is_gone) = (flow.give_back(cost), flow.is_gone());
        let begins_to_lag = flow.begins_to_lag();
        if let Some(debt) = paid {
            self.pay(debt);
        }
        if let Some(session) = sender {
            self.change(session, |account| {
                account.hold(0, released);
                if is_woken {
                    account.end_wait();
                }
            });
        }
        if begins_to_lag {
            self.lagging.push(key);
        }
        self.give_back(way, due);
        if is_gone {
            self.remove(key);
        }
    }

    /// The same of what went over a link; more than is held there is not released.
    pub fn release_over(&mut self, link: LinkKey, number: u64, way: Way, cost: usize) {
        let over = self.over.get(link.index());
        if let Some(key) = over.and_then(|over| over.get(&(number, way)).copied()) {
            self.release_of_over(key, cost);
        }
    }

    fn release_of_over(&mut self, key: FlowKey, cost: usize) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        let Some(over) = &mut flow.over else {
            return;
        };
        let cost = cost.min(over.held);
        over.held -= cost;
        self.users_over -= if flow.is_users { cost } else { 0 };
        self.release(key, cost);
    }

    /// A link is lost: what was on its way over it is held no more.
    pub fn link_lost(&mut self, link: LinkKey) {
        let over = self.over.get_mut(link.index()).map(std::mem::take);
        for key in over.unwrap_or_default().into_values() {
            self.release_of_over(key, usize::MAX);
        }
    }

    /// A call is over: others pay for what is still held of it.
    pub fn ended(&mut self, ended: &Ended) {
        let [up, down] = self.take_flows(ended.call);
        // The far node's caller is charged there.
        let caller = match ended.caller {
            End::Session(session, _) => Some(session),
            End::Link(..) => None,
        };
        match (up, ended.spliced_to) {
            (Some(flow), Some(taker)) => {
                self.forgive(flow);
                self.transfer(flow, Some((taker, Side::Receive)));
            }
            (Some(flow), None) => self.transfer(flow, caller.map(|caller| (caller, Side::Send))),
            (None, _) => {}
        }
        if let Some(flow) = down {
            self.transfer(flow, caller.map(|caller| (caller, Side::Receive)));
        }
    }

    /// A flow's call is over, and its source waits no more: what is still held of it is `to`'s debt, or is charged by the
    /// node that it is at.
    fn transfer(&mut self, from: FlowKey, to: Option<(SessionKey, Side)>) {
        let Some(flow) = self.flows.get_mut(from) else {
            return;
        };
        let (sender, way, held) = (flow.close(), flow.way, flow.held);
        let due = flow.give_back(0);
        let is_charged_there = flow.over.is_some() && way == Way::Down;
        let is_done = flow.held == 0 || is_charged_there;
        if let Some((session, side)) = to.filter(|_| !is_done) {
            let (amount, moved) = (flow.held, flow.held - flow.owed());
            flow.debt = Some(Debt {
                session,
                side,
                amount,
            });
            self.change(session, |account| *account.debt(side) += moved);
        }
        if let Some((session, waited)) = sender {
            self.change(session, |account| {
                account.hold(0, held);
                if waited {
                    account.end_wait();
                }
            });
        }
        self.give_back(way, due);
        if is_done {
            self.remove(from);
        }
    }

    /// What is on its way over a link is another flow's to pay from now on: a call's first chunks, once it is spliced.
    fn transfer_over(&mut self, from: FlowKey, to: FlowKey) {
        let over = self.flows.get(from).and_then(|flow| flow.over.as_ref());
        let held = over.map_or(0, |over| over.held);
        if from == to || held == 0 {
            return;
        }
        self.release_of_over(from, held);
        if let Some(flow) = self.flows.get_mut(to) {
            flow.held += held;
            if let Some(over) = &mut flow.over {
                over.held += held;
                self.users_over += if flow.is_users { held } else { 0 };
            }
            if let Some(session) = flow.sender() {
                self.change(session, |account| account.hold(held, 0));
            }
        }
    }

    /// A flow's source pays for it no more, though all of it is still held.
    fn forgive(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        let (way, held, debt) = (flow.way, flow.held, flow.debt.take());
        let is_far = matches!(flow.source, Source::Node { .. });
        flow.is_closed = true;
        let due = flow.give_back(held);
        if is_far {
            flow.source = Source::Nobody;
        }
        if let Some(debt) = debt {
            self.pay(debt);
        }
        self.give_back(way, due);
    }

    fn pay(&mut self, paid: Debt) {
        self.change(paid.session, |account| {
            let debt = account.debt(paid.side);
            debug_assert!(*debt >= paid.amount, "more is paid than is owed");
            // Nobody is shut out for ever by a sum that is wrong.
            *debt = debt.saturating_sub(paid.amount);
        });
    }

    fn give_back(&mut self, way: Way, due: Option<(LinkKey, u64, usize)>) {
        if let Some((link, number, bytes)) = due {
            self.effects.push_back(Effect::GiveBack {
                link,
                number,
                way,
                bytes,
            });
        }
    }

    fn remove(&mut self, key: FlowKey) {
        if let Some(flow) = self.flows.remove(key)
            && let Some(over) = flow.over
        {
            self.users_over -= if flow.is_users { over.held } else { 0 };
            self.forget_over(key, &over, flow.way);
        }
    }

    fn forget_over(&mut self, key: FlowKey, over: &Over, way: Way) {
        if let Some(payers) = self.over.get_mut(over.link.index())
            && payers.get(&(over.number, way)) == Some(&key)
        {
            payers.remove(&(over.number, way));
        }
    }

    /// Gives back what was taken and was too little to be worth a frame each time, so that nobody waits for it who could
    /// go on: now and then.
    pub fn give_back_lagging(&mut self) {
        for key in std::mem::take(&mut self.lagging) {
            if let Some(flow) = self.flows.get_mut(key) {
                let (due, way) = (flow.give_back_rest(), flow.way);
                self.give_back(way, due);
            }
        }
    }

    /// What is on its way to other nodes of users' sessions.
    pub fn users_over(&self) -> usize {
        self.users_over
    }

    /// What is to be done next about the changes so far.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Changes a session's account, if it has one, and says when it may send no more, or again.
    fn change(&mut self, session: SessionKey, change: impl FnOnce(&mut Account)) {
        let Some(account) = self.account(session) else {
            return;
        };
        let before = account.may_send();
        change(account);
        let effect = match (before, account.may_send()) {
            (true, false) => Effect::Stop(session),
            (false, true) => Effect::Resume(session),
            _ => return,
        };
        self.effects.push_back(effect);
    }

    fn account(&mut self, session: SessionKey) -> Option<&mut Account> {
        match self.accounts.get_mut(session.index())? {
            Some((generation, account)) if *generation == session.generation() => Some(account),
            _ => None,
        }
    }

    /// The flow of a call, made when first used.
    fn flow_of(&mut self, call: CallKey, way: Way, source: End) -> FlowKey {
        if self.of_calls.len() <= call.index() {
            self.of_calls.resize(call.index() + 1, (0, [None; 2]));
        }
        let (generation, flows) = &mut self.of_calls[call.index()];
        if *generation != call.generation() {
            (*generation, *flows) = (call.generation(), [None; 2]);
        }
        if let Some(flow) = flows[way as usize] {
            return flow;
        }
        let is_users = match source {
            End::Session(session, _) => {
                self.account(session).map(|account| account.class()) == Some(Class::Users)
            }
            End::Link(..) => false,
        };
        let flow = self.flows.insert(Flow::new(way, source, is_users));
        self.of_calls[call.index()].1[way as usize] = Some(flow);
        flow
    }

    /// The link that a call's flow leaves by, and its number there.
    pub fn over(&self, call: CallKey, way: Way) -> Option<(LinkKey, u64)> {
        let (generation, flows) = self.of_calls.get(call.index())?;
        let key = flows[way as usize].filter(|_| *generation == call.generation())?;
        let over = self.flows.get(key)?.over.as_ref()?;
        Some((over.link, over.number))
    }

    /// Forgets which flows a call has; they live until they are released.
    fn take_flows(&mut self, call: CallKey) -> [Option<FlowKey>; 2] {
        match self.of_calls.get_mut(call.index()) {
            Some((generation, flows)) if *generation == call.generation() => std::mem::take(flows),
            _ => [None; 2],
        }
    }

    /// Sums over everything, to be shown.
    pub fn totals(&self) -> Totals {
        let accounts = || self.accounts.iter().flatten().map(|(_, account)| account);
        Totals {
            flows: self.flows.len(),
            held: self.flows.iter().map(|(_, flow)| flow.held).sum(),
            over_links: self.over.iter().map(HashMap::len).sum(),
            debts: accounts()
                .map(|account| account.send_debt + account.receive_debt)
                .sum(),
            waits: accounts().map(|account| account.waits).sum(),
        }
    }
}

#[cfg(test)]
mod tests;
