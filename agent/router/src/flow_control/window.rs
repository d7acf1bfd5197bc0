//! Windows: how much of each call the router holds, and who waits when it is too much.
//!
//! A call has two flows, up to its callee and down to its caller. What is held of one counts against its window from the
//! moment it is queued until the receiving session's socket has taken it, wherever that session is:
//!
//! | the message's source | window used up | given back |
//! |---|---|---|
//! | a session of this shard | its connection is not read | when the socket, here or at the far shard, has taken it |
//! | another shard | that shard keeps the window, and stops | by a window frame to that shard |
//!
//! When a call ends, what is still held of it goes to an account of its caller, who caused it: *rest* (256 KiB) for what the
//! caller sent, the call's first message included from the start, and *unread* for answers it does not take. Of a call
//! whose bytes were led on as another's answers (`pipes_wamp`, `dealer/onward`) it goes to that one's caller, as *unread*.
//!
//! Always: what a flow holds is what its marks and frames on their way cost; a flow that is closed and holds nothing
//! is gone; a source is counted as waiting once for each of its flows without window.

use pipes_wamp::router::{Arena, CallKey, End, Key, LinkKey, SessionKey, Way};

/// Window of one direction of a call; more than the largest credit of a pipe (1 MiB), so that credit rules.
pub const WINDOW: usize = 2 << 20;
/// What else a session sends and has not been taken: first messages of calls, chunks of calls that are over.
pub const REST: usize = 256 << 10;
/// Answers of calls that are over, which their caller has not taken.
pub const UNREAD: usize = 2 << 20;
/// What a message costs beside its payload: its heads and places in queues.
pub const MESSAGE_COST: usize = 64;

/// Names a flow.
pub type FlowKey = Key<Flow>;

/// One direction of a call.
pub struct Flow {
    /// Who sends.
    pub source: End,
    /// Which way.
    pub way: Way,
    /// The link it leaves by, with its number there; a led call's also goes to a session of this shard.
    pub over: Option<(LinkKey, u64)>,
    /// What is held of it.
    pub used: usize,
    /// How much of that is on that link.
    pub used_over: usize,
    /// How much of that counts in an account of the caller's session already.
    pub in_account: usize,
    /// Whose account that is.
    pub account: Option<SessionKey>,
    /// Its source waits.
    pub is_blocked: bool,
    /// Its call is over.
    pub is_closed: bool,
    /// What was taken and not yet given back to the far shard.
    pub due: usize,
    /// Something was given back: what the call's first message cost.
    pub has_given: bool,
}

impl Flow {
    /// A window frame is sent for so much, after the first message and while the call lives.
    pub const PORTION: usize = 128 << 10;

    fn new(way: Way, source: End) -> Flow {
        Flow {
            source,
            way,
            over: None,
            used: 0,
            used_over: 0,
            in_account: 0,
            account: None,
            is_blocked: false,
            is_closed: false,
            due: 0,
            has_given: false,
        }
    }
}

/// All flows.
#[derive(Default)]
pub struct Flows {
    flows: Arena<Flow>,
    /// Of each call, by its slot: its generation, then its flows up and down.
    of_calls: Vec<(u32, [Option<FlowKey>; 2])>,
}

/// What a release did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// So much leaves the account that the flow counts in.
    pub from_account: usize,
    /// Its source need not wait for it any more.
    pub is_unblocked: bool,
    /// It is gone.
    pub is_gone: bool,
}

impl Flows {
    /// The flow of a call, made when first used.
    pub fn of(&mut self, call: CallKey, way: Way, source: End) -> FlowKey {
        if self.of_calls.len() <= call.index() {
            self.of_calls.resize(call.index() + 1, (0, [None; 2]));
        }
        let (generation, flows) = &mut self.of_calls[call.index()];
        if *generation != call.generation() {
            (*generation, *flows) = (call.generation(), [None; 2]);
        }
        *flows[way as usize].get_or_insert_with(|| self.flows.insert(Flow::new(way, source)))
    }

    /// The flow of a call, if it was used.
    pub fn find(&self, call: CallKey, way: Way) -> Option<FlowKey> {
        let (generation, flows) = self.of_calls.get(call.index())?;
        if *generation == call.generation() {
            flows[way as usize]
        } else {
            None
        }
    }

    /// Forgets which flows a call has; they live until they are removed.
    pub fn take(&mut self, call: CallKey) -> [Option<FlowKey>; 2] {
        match self.of_calls.get_mut(call.index()) {
            Some((generation, flows)) if *generation == call.generation() => std::mem::take(flows),
            _ => [None; 2],
        }
    }

    /// A flow.
    pub fn get(&self, key: FlowKey) -> Option<&Flow> {
        self.flows.get(key)
    }

    /// A flow, to be changed.
    pub fn get_mut(&mut self, key: FlowKey) -> Option<&mut Flow> {
        self.flows.get_mut(key)
    }

    /// Holds `cost` more. True: its source must wait from now on.
    pub fn charge(&mut self, key: FlowKey, cost: usize) -> bool {
        let Some(flow) = self.flows.get_mut(key) else {
            return false;
        };
        flow.used += cost;
        let blocks = flow.used >= WINDOW && !flow.is_blocked && matches!(flow.source, End::Session(..));
        flow.is_blocked |= blocks;
        blocks
    }

    /// Holds `cost` less.
    pub fn release(&mut self, key: FlowKey, cost: usize) -> Released {
        let Some(flow) = self.flows.get_mut(key) else {
            return Released::default();
        };
        flow.used = flow.used.saturating_sub(cost);
        let from_account = flow.in_account.min(cost);
        flow.in_account -= from_account;
        // Half of it free: a source that wakes for every message would write them one by one.
        let is_unblocked = flow.is_blocked && flow.used <= WINDOW / 2;
        flow.is_blocked &= !is_unblocked;
        let is_gone = flow.is_closed && flow.used == 0;
        Released {
            from_account,
            is_unblocked,
            is_gone,
        }
    }

    /// How many there are, and what is held of them.
    pub fn held(&self) -> (usize, usize) {
        (
            self.flows.len(),
            self.flows.iter().map(|(_, flow)| flow.used).sum(),
        )
    }

    /// Takes a flow out.
    pub fn remove(&mut self, key: FlowKey) -> Option<Flow> {
        self.flows.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_waits_from_a_whole_window_to_half_of_one() {
        let mut flows = Flows::default();
        let flow = flows
            .flows
            .insert(Flow::new(Way::Up, End::Session(Key::none(), 1)));
        assert!(!flows.charge(flow, WINDOW - 1));
        assert!(flows.charge(flow, 100));
        assert!(!flows.charge(flow, 100), "it waits once");
        assert!(!flows.release(flow, 1000).is_unblocked);
        assert!(flows.release(flow, WINDOW / 2).is_unblocked);
    }

    #[test]
    fn a_closed_flow_is_gone_when_nothing_of_it_is_held() {
        let mut flows = Flows::default();
        let flow = flows
            .flows
            .insert(Flow::new(Way::Down, End::Session(Key::none(), 1)));
        flows.charge(flow, 10);
        if let Some(flow) = flows.get_mut(flow) {
            (flow.is_closed, flow.in_account) = (true, 10);
        }
        assert_eq!(
            flows.release(flow, 4),
            Released {
                from_account: 4,
                ..Released::default()
            }
        );
        assert_eq!(
            flows.release(flow, 6),
            Released {
                from_account: 6,
                is_gone: true,
                ..Released::default()
            }
        );
    }
}
