//! Clients that submit queries to all agents in turn, with an idempotency key so that a lost answer is asked for again.
//!
//! Always: a query is noted once its ID was answered, and counted from when it was first sent, whoever was asked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rmpv::Value;

use crate::cluster::Cluster;
use crate::history::{Accepted, History};
use crate::http::{Connection, Request};
use crate::random;
use crate::wait::let_pass;
use crate::wamp::Session;

/// The port of all daemon workflows.
pub const PORT: u16 = 7080;
/// How long one agent is waited for before the next is asked: beyond what an accepted query takes when all is well, and a
/// third of what a query may wait in all.
const PATIENCE: Duration = Duration::from_millis(900);
/// Before all agents are asked once more.
const PAUSE: Duration = Duration::from_millis(20);
/// Idempotency keys are asked for again now and then, when their job may long be over.
const AGAIN_EVERY: usize = 10;

/// What is submitted.
pub struct Load<'a> {
    /// To which cluster.
    pub cluster: &'a Cluster,
    /// Where it is noted.
    pub history: &'a History,
    /// The workflow, which makes small letters large.
    pub workflow: &'a str,
    /// What each client rests between two queries.
    pub pace: Duration,
    /// Whether every other query goes over WAMP.
    pub over_wamp: bool,
    /// Queries that are still to be begun.
    pub left: &'a AtomicUsize,
    /// Ends it before.
    pub is_over: &'a AtomicBool,
}

/// A client's ways to one agent, each open as long as it works.
struct Ways {
    http: Connection,
    wamp: Option<Session>,
}

impl Load<'_> {
    /// Submits as one client, until there is nothing left.
    pub fn submit(&self, client: usize, seed: u64) -> Result<()> {
        let mut random = random::generator(seed ^ (client as u64 + 1) << 40);
        let mut ways = self.ways()?;
        for number in 0.. {
            let is_left = self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if is_left.is_err() || self.is_over.load(Ordering::Relaxed) {
                break;
            }
            let input = input(&mut random, client, number);
            // Without a key a lost answer is a lost query: nothing was promised.
            let key = (random.random_ratio(9, 10)).then(|| format!("{client}-{number}"));
            let way = if self.over_wamp && random.random_bool(0.5) {
                "wamp"
            } else {
                "http"
            };
            let first = random.random_range(0..ways.len());
            self.query(&mut ways, first, way, key.as_deref(), &input)?;
            let_pass(self.pace);
        }
        Ok(())
    }

    fn ways(&self) -> Result<Vec<Ways>> {
        let nodes = self.cluster.nodes.iter();
        nodes
            .map(|node| {
                Ok(Ways {
                    http: Connection::to(&node.address, PORT)?.within(PATIENCE),
                    wamp: None,
                })
            })
            .collect()
    }

    /// Asks one agent after another until it is answered.
    fn query(
        &self,
        ways: &mut [Ways],
        first: usize,
        way: &str,
        key: Option<&str>,
        input: &[u8],
    ) -> Result<()> {
        let begun = Instant::now();
        for turn in 0.. {
            let at = (first + turn) % ways.len();
            let asked = match way {
                "wamp" => self.over_wamp(&mut ways[at], at, key, input),
                _ => self.over_http(&mut ways[at].http, key, input),
            };
            match asked {
                Ok(id) => {
                    let through = &self.cluster.nodes[at].name;
                    let job = Accepted {
                        id,
                        workflow: self.workflow.to_owned(),
                        expected: input.to_ascii_uppercase(),
                        waited: begun.elapsed(),
                        at: self.history.now(),
                    };
                    // Which ones is as good as chance, and the same for the same seed.
                    if key.is_some() && input.len().is_multiple_of(AGAIN_EVERY) {
                        self.same_again(ways, at + 1, key, input, &job.id);
                    }
                    self.history.accepted(job, key, through, way);
                    return Ok(());
                }
                Err(error) if format!("{error:#}").contains("with other input") => return Err(error),
                Err(error) if key.is_none() => {
                    self.history.note(&format!("a query without a key: {error:#}"));
                    // Another takes its place.
                    self.left.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => {
                    if self.is_over.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    self.history
                        .note(&format!("{}: {error:#}", self.cluster.nodes[at].name));
                    if turn % ways.len() == ways.len() - 1 {
                        let_pass(PAUSE);
                    }
                }
            }
        }
        Ok(())
    }

    /// A key that is used again is the same job, at whichever agent.
    fn same_again(&self, ways: &mut [Ways], at: usize, key: Option<&str>, input: &[u8], id: &str) {
        let at = at % ways.len();
        match self.over_http(&mut ways[at].http, key, input) {
            Ok(again) if again != id => {
                let said = format!(
                    "key {key:?} is {id}, and {again} at {}",
                    self.cluster.nodes[at].name
                );
                self.history.told().keys_broken.push(said);
            }
            _ => {}
        }
    }

    fn over_http(&self, http: &mut Connection, key: Option<&str>, input: &[u8]) -> Result<String> {
        let target = format!("/{}/", self.workflow);
        let header = key.map(|key| ("Idempotency-Key", key));
        let headers: Vec<(&str, &str)> = header.into_iter().collect();
        http.ask(&Request::post(&target, input).with(&headers))?.job()
    }

    fn over_wamp(&self, ways: &mut Ways, node: usize, key: Option<&str>, input: &[u8]) -> Result<String> {
        // It is put back only once it has answered: a late answer must not be taken for the next one.
        let mut session = match ways.wamp.take() {
            Some(session) => session,
            None => {
                let node = &self.cluster.nodes[node];
                ensure!(node.is_up(), "its agent is down");
                node.operator_within(PATIENCE)?
            }
        };
        let mut keywords = vec![
            ("workflow", self.workflow.into()),
            ("input", Value::Binary(input.to_vec())),
        ];
        keywords.extend(key.map(|key| ("key", key.into())));
        let answered = session.call("pipes.job.submit", vec![], keywords)?.done()?;
        let job = answered.first().context("an answer")?;
        let Some(id) = job["id"].as_str() else {
            bail!("no ID in {job}")
        };
        ways.wamp = Some(session);
        Ok(id.to_owned())
    }
}

/// An input that no other query has: mostly a few words, now and then more than lies in a key.
fn input(random: &mut StdRng, client: usize, number: usize) -> Vec<u8> {
    let mut input = format!("query {number} of {client}\n").into_bytes();
    let more = match random.random_range(0..50) {
        0 => random.random_range(16_000..40_000),
        1 => random.random_range(100_000..300_000),
        _ => random.random_range(0..200),
    };
    input.extend((0..more).map(|at| b"abcdefghijklmnopqrstuvwxyz \n"[(at * 7 + number) % 28]));
    input
}
