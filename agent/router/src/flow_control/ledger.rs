//! The ledger: who pays for every byte that the router holds.
//!
//! | | is charged to | until |
//! |---|---|---|
//! | a message of a call | the call's flow in that direction (`window`) | it is released: a socket took it, or it was thrown away |
//! | a call's first message | the same, and its caller's *send debt* | it is released |
//! | what is held of a call that is over | its caller's *send* or *receive debt*, who caused it (`transfer`) | it is released |
//! | the same, bytes spliced into another call's answers | that call's caller's *receive debt* | it is released |
//!
//! A session whose flow has no window, or that owes too much, is not read: the ledger says when that begins and ends
//! ([`Effect`]), and the outbox does so. It knows no sockets.
//!
//! Always (the tests assert it): (1) a session's debts are the sums of what its flows say, and it waits once for each of its
//! flows without window; (2) of what a flow holds, no more is a debt than is held, nor on its way over a link; (3) a flow
//! that is closed and holds nothing is gone; (4) what is on its way over a link is one flow's to pay.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt};
use pipes_wamp::router::{Arena, CallKey, Charge, End, Ended, LinkKey, SessionKey, Way};

use crate::flow_control::window::{Debt, Flow, FlowKey, Over, Side, Source};

/// What a session sends beside its calls in progress and has not been taken: first messages of calls, chunks of calls that
/// are over. One that owes so much is not read.
const SEND_DEBT_MAX: usize = 256 << 10;
/// Answers of calls that are over, which their caller has not taken. One that owes so much is not read.
const RECEIVE_DEBT_MAX: usize = 2 << 20;

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

/// One session's.
#[derive(Default)]
struct Account {
    /// Its flows without window.
    waits: usize,
    send_debt: usize,
    receive_debt: usize,
}

impl Account {
    fn may_send(&self) -> bool {
        self.waits == 0 && self.send_debt < SEND_DEBT_MAX && self.receive_debt < RECEIVE_DEBT_MAX
    }

    fn end_wait(&mut self) {
        debug_assert!(self.waits > 0, "a wait ends that never began");
        self.waits = self.waits.saturating_sub(1);
    }

    fn debt(&mut self, side: Side) -> &mut usize {
        match side {
            Side::Send => &mut self.send_debt,
            Side::Receive => &mut self.receive_debt,
        }
    }
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
    effects: VecDeque<Effect>,
}

impl Ledger {
    /// Opens the account of a session that joined.
    pub fn open(&mut self, session: SessionKey) {
        if self.accounts.len() <= session.index() {
            self.accounts.resize_with(session.index() + 1, || None);
        }
        self.accounts[session.index()] = Some((session.generation(), Account::default()));
    }

    /// Closes the account of one that left; its flows live until they are released.
    pub fn close(&mut self, session: SessionKey) {
        if self.account(session).is_some() {
            self.accounts[session.index()] = None;
        }
    }

    /// Holds a message's cost against its flow; `over` is the link it leaves by, and its call's number there.
    pub fn charge(&mut self, charge: Charge, cost: usize, over: Option<(LinkKey, u64)>) -> Option<FlowKey> {
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
        let waiting = flow.charge(cost);
        if let (true, End::Session(session, _)) = (opening, source) {
            let amount = flow.owed() + cost;
            flow.debt = Some(Debt {
                session,
                side: Side::Send,
                amount,
            });
            self.change(session, |account| account.send_debt += cost);
        }
        if let Some(session) = waiting {
            self.change(session, |account| account.waits += 1);
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
        let way = flow.way;
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
        let (paid, woken, way) = (flow.release(cost), flow.wake(), flow.way);
        let (due, is_gone) = (flow.give_back(cost), flow.is_gone());
        if let Some(debt) = paid {
            self.pay(debt);
        }
        if let Some(session) = woken {
            self.change(session, Account::end_wait);
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
        let flow = self.flows.get_mut(key);
        let Some(over) = flow.and_then(|flow| flow.over.as_mut()) else {
            return;
        };
        let cost = cost.min(over.held);
        over.held -= cost;
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
        let (woken, way) = (flow.close(), flow.way);
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
        if let Some(session) = woken {
            self.change(session, Account::end_wait);
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
            && let Some(payers) = self.over.get_mut(over.link.index())
            && payers.get(&(over.number, flow.way)) == Some(&key)
        {
            payers.remove(&(over.number, flow.way));
        }
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
        *flows[way as usize].get_or_insert_with(|| self.flows.insert(Flow::new(way, source)))
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
