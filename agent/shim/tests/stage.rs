//! A stage as a test drives it: coordinator, stage before and stage after in one.

use pipes_flow as flow;
use pipes_wamp::message::{CancelMode, Message};
use rmpv::Value;

use crate::agent::{Agent, PIPE, STAGE, Said};

/// One invocation, and what it has said so far.
#[derive(Debug, Default)]
pub struct Stage {
    pub request: u64,
    pub pipe: u64,
    pub next_call: u64,
    pub is_ready: bool,
    pub is_started: bool,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Whether the end of its output was said.
    pub has_ended: bool,
    /// Whether its call to the next stage was given up.
    pub is_next_broken: bool,
    pub exit: Option<(i64, Option<i64>)>,
    pub closed: Option<u64>,
    pub counts: Option<(u64, u64)>,
    /// What it said of its counts while it was on.
    pub counts_so_far: Vec<(u64, u64)>,
    pub error: Option<(String, String)>,
    /// Credit that it gave and that is not used.
    pub credit: u64,
    pub is_pipe_answered: bool,
    pub pipe_error: Option<String>,
    /// Whether output is granted as it comes.
    pub takes_output: bool,
    pub taken: u64,
    pub granted: u64,
    /// What it said, in order, for those who look at the order.
    pub log: Vec<&'static str>,
}

/// The dictionary of a stage call.
pub fn order(run: &str, args: &[&str], extra: Vec<(&str, Value)>) -> Value {
    let args = args
        .iter()
        .map(|arg| Value::Binary(arg.as_bytes().to_vec()))
        .collect();
    let mut pairs: Vec<(Value, Value)> = vec![
        ("run".into(), run.into()),
        ("stage".into(), 1.into()),
        ("args".into(), Value::Array(args)),
        ("next".into(), "pipes.node.9.next".into()),
        ("attempt".into(), 1.into()),
    ];
    pairs.extend(extra.into_iter().map(|(key, value)| (key.into(), value)));
    Value::Map(pairs)
}

impl Stage {
    /// Calls both procedures, and waits until the hop behind is called.
    pub fn prepare(agent: &mut Agent, order: Value, run: &str) -> Stage {
        let request = agent.invoke(STAGE, vec![order]);
        let pipe = agent.invoke(PIPE, vec![run.into(), 1.into(), Value::Binary(Vec::new())]);
        Stage {
            request,
            pipe,
            takes_output: true,
            ..Stage::default()
        }
    }

    /// Prepares, grants the first credit and says go.
    pub fn start(agent: &mut Agent, run: &str, args: &[&str]) -> Stage {
        Stage::start_order(agent, order(run, args, Vec::new()), run)
    }

    /// As [`Stage::start`], with an order of one's own.
    pub fn start_order(agent: &mut Agent, order: Value, run: &str) -> Stage {
        let mut stage = Stage::make_ready(agent, order, run);
        stage.command(agent, vec!["go".into()]);
        stage
    }

    /// Prepares, and grants the first credit.
    pub fn make_ready(agent: &mut Agent, order: Value, run: &str) -> Stage {
        let mut stage = Stage::prepare(agent, order, run);
        stage.until(agent, "called", |stage| stage.next_call != 0 && stage.credit > 0);
        stage.grant(agent, flow::WINDOW_FIRST as u64);
        stage.until(agent, "ready", |stage| stage.is_ready);
        stage
    }

    pub fn command(&mut self, agent: &mut Agent, args: Vec<Value>) {
        agent.chunk(self.request, STAGE, args, true);
    }

    /// Grants so many bytes of output.
    pub fn grant(&mut self, agent: &mut Agent, count: u64) {
        self.granted += count;
        agent.result(self.next_call, vec![count.into()], true);
    }

    /// Says that the run is over, and waits for the answer.
    pub fn end(&mut self, agent: &mut Agent) {
        agent.chunk(self.request, STAGE, vec!["end".into()], false);
        self.until(agent, "answered", |stage| stage.is_answered());
    }

    pub fn is_answered(&self) -> bool {
        self.counts.is_some() || self.error.is_some()
    }

    /// Feeds all of `input` as credit allows, then its end; until the pipe call is answered.
    pub fn feed(&mut self, agent: &mut Agent, input: &[u8]) {
        let mut left = input;
        while !left.is_empty() && !self.is_pipe_answered {
            while self.credit == 0 && !self.is_pipe_answered {
                self.step(agent);
            }
            let count = left.len().min(self.credit as usize).min(flow::CHUNK_MAX);
            self.give(agent, &left[..count], false);
            left = &left[count..];
        }
        if !self.is_pipe_answered {
            self.give(agent, &[], true);
        }
        self.until(agent, "all taken", |stage| stage.is_pipe_answered);
    }

    /// One chunk of input.
    pub fn give(&mut self, agent: &mut Agent, bytes: &[u8], is_last: bool) {
        self.credit -= bytes.len() as u64;
        agent.chunk(self.pipe, PIPE, vec![Value::Binary(bytes.to_vec())], !is_last);
    }

    /// Gives up a call that was made to the shim.
    pub fn interrupt(agent: &mut Agent, request: u64) {
        agent.send(Message::Interrupt {
            request,
            mode: CancelMode::KillNoWait,
            reason: None,
        });
    }

    /// Handles what the shim says until something is so.
    pub fn until(&mut self, agent: &mut Agent, what: &str, is_so: impl Fn(&Stage) -> bool) {
        while !is_so(self) {
            let said = self.step(agent);
            assert!(
                !self.is_answered() || is_so(self) || what == "answered",
                "not {what}, but {said:?}"
            );
        }
    }

    /// Handles one thing that the shim says.
    pub fn step(&mut self, agent: &mut Agent) -> Said {
        let said = agent.next();
        assert!(self.take(agent, &said), "nobody's: {said:?}");
        said
    }

    /// Takes what is this stage's.
    pub fn take(&mut self, agent: &mut Agent, said: &Said) -> bool {
        match said {
            Said::Call {
                request,
                procedure,
                args,
                ..
            } if self.next_call == 0 => {
                assert_eq!(procedure, "pipes.node.9.next");
                assert_eq!((args.len(), args[1].as_u64()), (3, Some(2)));
                self.next_call = *request;
            }
            Said::Call {
                request,
                progress,
                bytes,
                ..
            } if *request == self.next_call => {
                self.stdout.extend_from_slice(bytes);
                self.taken += bytes.len() as u64;
                assert!(self.taken <= self.granted, "more than was granted");
                if !progress {
                    self.has_ended = true;
                    agent.result(self.next_call, vec![], false);
                } else if self.takes_output {
                    self.grant(agent, bytes.len() as u64 + flow::WINDOW_FIRST as u64);
                }
            }
            Said::Cancel(request) if *request == self.next_call => self.is_next_broken = true,
            Said::Yield {
                request,
                progress,
                args,
            } if *request == self.request => {
                self.report(*progress, args);
            }
            Said::Yield {
                request,
                progress,
                args,
            } if *request == self.pipe => {
                self.is_pipe_answered |= !progress;
                self.credit += args.first().and_then(Value::as_u64).unwrap_or(0);
            }
            Said::Error { request, error, why } if *request == self.request => {
                self.error = Some((error.clone(), why.clone()));
            }
            Said::Error { request, error, .. } if *request == self.pipe => {
                self.is_pipe_answered = true;
                self.pipe_error = Some(error.clone());
            }
            _ => return false,
        }
        true
    }

    fn report(&mut self, progress: bool, args: &[Value]) {
        if !progress {
            let count = |name: &str| args[0][name].as_u64().unwrap();
            self.counts = Some((count("bytes_in"), count("bytes_out")));
            self.log.push("result");
            return;
        }
        match args[0].as_str().unwrap() {
            // A file that comes slowly.
            "laying" => {}
            "ready" => self.is_ready = true,
            "started" => self.is_started = args[1].as_u64().unwrap() > 1_600_000_000_000,
            "stderr" => {
                self.stderr.extend_from_slice(args[1].as_slice().unwrap());
                self.log.push("stderr");
            }
            "exited" => {
                self.exit = Some((args[1].as_i64().unwrap(), args[2].as_i64()));
                self.log.push("exited");
            }
            "counts" => {
                let counts = (args[1].as_u64().unwrap(), args[2].as_u64().unwrap());
                self.counts_so_far.push(counts);
            }
            "closed" => {
                self.closed = args[1].as_u64();
                self.log.push("closed");
            }
            other => panic!("{other}"),
        }
    }
}

/// Runs `sh -c SCRIPT` over an input to its end.
pub fn run(agent: &mut Agent, name: &str, script: &str, input: &[u8]) -> Stage {
    let mut stage = Stage::start(agent, name, &["-c", script]);
    stage.feed(agent, input);
    stage.until(agent, "over", |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    stage.end(agent);
    stage
}

/// Drives several stages at once until all are so.
pub fn until_all(agent: &mut Agent, stages: &mut [Stage], is_so: impl Fn(&Stage) -> bool) {
    while !stages.iter().all(&is_so) {
        let said = agent.next();
        assert!(
            stages.iter_mut().any(|stage| stage.take(agent, &said)),
            "nobody's: {said:?}"
        );
    }
}
