//! One attempt at a run: reserve, connect, start, carry, end. A state machine over messages of realm `pipes.stages`.
//!
//! ```text
//! prepare (all nodes at once)  ->  reserved, ready: the replicas. The calls stay open, and with them the slots
//! stage calls, stdin's pipe call  ->  every stage ready: each hop was proved by its first credit
//! start  ->  bytes, exits, closes
//! end (all exited and closed)  ->  what is left of each stage is killed, counts come back
//! ```
//!
//! Always: (1) nothing runs before every stage is ready; (2) stdin is neither taken nor ended before the start, so that an
//! attempt that failed before can be made anew, unseen; (3) after it, anything lost ends the attempt for good: all
//! stages are killed, nothing is run again; (4) only an end of input that was said is passed on as one; (5) its slots
//! are free when it has failed and another is to follow, and otherwise once its session has ended.
//! Not here: sockets and time (`event_loop.rs`), the choice of nodes (`placement/`), what comes of it (`outcome.rs`).

pub mod replies;
mod requests;
pub mod stage;
#[cfg(test)]
pub mod tests;

use std::collections::BTreeMap;

use pipes_wamp::client::Writer;
use pipes_wamp::message::{CancelMode, Message};

use pipes_protocol::stage::Order;

use crate::workflow::coordinator::attempt::stage::Stage;
use crate::workflow::coordinator::plan::Plan;
use crate::workflow::supply::Grant;
use pipes_router::Own;

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nodes are asked for replicas.
    Reserving,
    /// Stage calls and pipe calls are made.
    Connecting,
    /// The executables run.
    Running,
    /// All have ended; what is left is being cleared.
    Ending,
    /// Something was lost or refused; stages are being killed.
    Failing,
    /// They are; nodes get their slots back, which another attempt may need.
    Freeing,
    /// Nothing more will come.
    Over,
}

/// Why an attempt ended before its stages did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Nodes have no slot; said before anything ran.
    Full,
    /// A node did not answer, or a replica did not get ready.
    Unavailable {
        /// The node to avoid, where it is known.
        node: Option<u64>,
        /// What is known.
        why: String,
    },
    /// A stage's executable cannot be started.
    CannotStart {
        /// From 0.
        stage: usize,
        /// The system's reason.
        why: String,
    },
    /// A stage took more than it may have, and was ended.
    OverLimit {
        /// From 0.
        stage: usize,
        /// Of what.
        why: String,
    },
    /// A server, link or shim was lost after the start.
    Lost,
    /// Part of stdin went to an attempt that failed, and cannot be had again.
    Incomplete,
    /// The caller cancelled or is gone.
    Gone,
    /// A signal before the start.
    Signalled(i32),
    /// The caller broke the protocol.
    Usage(String),
}

/// What a request of ours was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Our own registration, where the last stage's output comes.
    Register,
    /// The reservation on a node, as long as it is open.
    Prepare(u64),
    /// A stage's life.
    Stage(usize),
    /// The pipe to the first stage.
    Stdin,
}

/// One attempt.
pub struct Attempt<'p> {
    pub(super) plan: &'p Plan,
    /// Tells this attempt's URIs from a former one's.
    pub(super) number: u32,
    /// Which start of the line's executables this would be, from 1, as they are told.
    pub start_number: u64,
    /// Nodes are asked in turn, and wait for their slots rather than refuse.
    pub in_turn: bool,
    /// How far it has come.
    pub phase: Phase,
    /// The executables were told to start.
    pub has_started: bool,
    /// The stages, in the line's order.
    pub stages: Vec<Stage>,
    /// Why it stopped, if it did.
    pub stop: Option<Stop>,
    /// Nodes still to be asked, by id.
    pub(super) to_ask: Vec<u64>,
    /// Nodes asked that have not said a word yet.
    pub silent: Vec<u64>,
    pub(super) calls: BTreeMap<u64, Call>,
    last_request: u64,
    /// The id of the session that all this is said on.
    session: u64,
    /// Messages to the router.
    pub writer: Writer,
    /// The pipe to the first stage.
    pub stdin: Stdin,
    /// The pipe from the last stage.
    pub output: Output,
    /// How many nodes were asked.
    pub asked: usize,
    /// Nodes that had no slot.
    pub refused_by: Vec<u64>,
    /// What it was given to be placed.
    pub grant: Option<Grant>,
    /// How often a shim said that files of the run came further.
    pub(super) laid: usize,
}

/// The coordinator's end of the first stage's stdin.
#[derive(Debug, Default)]
pub struct Stdin {
    pub(super) request: u64,
    /// Bytes the first stage still takes, of what passes here.
    pub credit: u64,
    /// The caller's bytes go past: what comes here all the same would be out of order.
    pub spliced: bool,
    /// Nobody reads any more, or the end was sent.
    pub done: bool,
    /// Bytes sent from here.
    pub sent: u64,
}

/// The coordinator's end of the last stage's stdout.
#[derive(Debug, Default)]
pub struct Output {
    /// The invocation that carries it, once it came.
    pub invocation: Option<u64>,
    /// Ended: said by the last stage, or by us because nobody reads.
    pub done: bool,
    /// The end was said, and is answered when the caller took everything.
    pub ending: bool,
    /// Bytes received here.
    pub received: u64,
}

impl<'p> Attempt<'p> {
    /// An attempt on a session of its own, placed on `nodes`, one for each stage.
    pub fn new(
        plan: &'p Plan,
        number: u32,
        nodes: Vec<(u64, String)>,
        session: u64,
        writer: Writer,
    ) -> Attempt<'p> {
        let stages: Vec<Stage> = nodes
            .into_iter()
            .map(|(node, node_name)| Stage {
                node,
                node_name,
                ..Stage::default()
            })
            .collect();
        let mut to_ask: Vec<u64> = stages.iter().map(|stage| stage.node).collect();
        to_ask.sort_unstable();
        to_ask.dedup();
        Attempt {
            plan,
            number,
            start_number: 1,
            in_turn: false,
            phase: Phase::Reserving,
            has_started: false,
            stages,
            stop: None,
            to_ask,
            silent: Vec::new(),
            calls: BTreeMap::new(),
            last_request: 0,
            session,
            writer,
            stdin: Stdin::default(),
            output: Output::default(),
            asked: 0,
            refused_by: Vec::new(),
            grant: None,
            laid: 0,
        }
    }

    /// Ends the attempt: kills what was called, gives the slots back, waits for the answers.
    pub fn stop(&mut self, stop: Stop) {
        if matches!(self.phase, Phase::Failing | Phase::Freeing | Phase::Over) {
            return;
        }
        self.stop = Some(stop);
        self.phase = Phase::Failing;
        self.cancel(|call| matches!(call, Call::Stage(_)).then_some(CancelMode::Kill));
        self.advance();
    }

    /// Slots are free somewhere: one that waits in turn and has nothing yet takes those.
    pub fn freed(&mut self) {
        let is_outdone = self.grant.as_ref().is_some_and(Grant::is_outdone);
        if self.in_turn && self.phase == Phase::Reserving && is_outdone {
            self.stop(Stop::Full);
        }
    }

    fn cancel(&mut self, mode: impl Fn(&Call) -> Option<CancelMode>) {
        for (request, call) in &self.calls {
            if let Some(mode) = mode(call) {
                let request = *request;
                self.writer.queue(&Message::Cancel { request, mode });
            }
        }
    }

    /// Gives back what nodes have reserved. One that says nothing is not waited for.
    fn free(&mut self) {
        self.phase = Phase::Freeing;
        let silent = self.silent.clone();
        self.cancel(|call| match call {
            Call::Prepare(node) if silent.contains(node) => Some(CancelMode::KillNoWait),
            Call::Prepare(_) => Some(CancelMode::Kill),
            _ => None,
        });
    }

    /// Moves on when all that a phase waits for has come.
    pub(super) fn advance(&mut self) {
        match self.phase {
            Phase::Running if self.stages.iter().all(|s| s.exit.is_some() && s.closed.is_some()) => {
                self.phase = Phase::Ending;
                for stage in 0..self.stages.len() {
                    self.order(stage, Order::End);
                }
            }
            Phase::Ending if self.stages.iter().all(Stage::is_over) => self.phase = Phase::Over,
            Phase::Failing if !self.has_open(|call| matches!(call, Call::Stage(_))) => {
                self.free();
                self.advance();
            }
            Phase::Freeing if !self.has_open(|call| matches!(call, Call::Prepare(_))) => {
                self.phase = Phase::Over;
            }
            _ => {}
        }
    }

    fn has_open(&self, which: impl Fn(&Call) -> bool) -> bool {
        self.calls.values().any(which)
    }

    fn request(&mut self, call: Call) -> u64 {
        self.last_request += 1;
        self.calls.insert(self.last_request, call);
        self.last_request
    }

    /// How often something came that gives the phase its whole time anew: a node was asked, files came further.
    pub fn steps(&self) -> usize {
        self.asked + self.laid
    }

    /// The first node whose replica is not ready.
    pub fn unready_node(&self) -> Option<u64> {
        let mut stages = self.stages.iter();
        let late = stages.find(|stage| stage.replica.is_empty() || !stage.ready)?;
        Some(late.node)
    }

    /// A call of ours, for the router.
    pub fn own(&self, request: u64) -> Own {
        Own {
            session: self.session,
            request,
        }
    }
}
