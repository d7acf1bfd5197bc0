//! Before a workflow's wish changes, each stage of the new line gets a replica: until then the old line serves.
//!
//! A prepare on a node that the stage may use, as a run makes one, has a replica started there; it is held until the wish
//! is written, and stays warm for the first request. A node that is full or fails is no reason to give up: the next one is
//! asked, for a minute in all. What cannot be started anywhere is told at once.

use std::time::Duration;

use futures::future::try_join_all;
use pipes_protocol::reservation::{self, Prepare, PrepareError, Progress, Wanted};
use pipes_protocol::supply::Kind;
use pipes_protocol::uris;
use pipes_wamp::client::{Call, CallError, CallOptions, Session};
use tokio::time::{Instant, timeout_at};

use crate::cluster::nodes::Nodes;
use crate::retry::Backoff;
use crate::workflow::daemon::error::Error;
use crate::workflow::daemon::record::Definition;
use crate::workflow::placement::stage_index;

/// How long the stages of a new line may take to have a replica each. Beyond it the old line stays.
pub const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a node may take to say its first word: it never waits to say one. Beyond it the next one is asked.
const WORD_WITHIN: Duration = Duration::from_secs(1);
/// How long a node may take after that, most of it to fetch what it has not: so two others can be asked within the minute.
const NODE_WITHIN: Duration = Duration::from_secs(25);

/// Has the stages of a definition started.
#[async_trait::async_trait]
pub trait Rollout: Send + Sync {
    /// Each stage has a replica that can be called; they are held until what this gives is dropped.
    async fn ready(&self, definition: &Definition) -> Result<Box<dyn Send>, Error>;
}

/// Has them started on the nodes of this cluster.
pub struct OnNodes<'a> {
    /// Those there are.
    pub nodes: &'a Nodes,
    /// Calls to their agents.
    pub agents: &'a Session,
}

#[async_trait::async_trait]
impl Rollout for OnNodes<'_> {
    async fn ready(&self, definition: &Definition) -> Result<Box<dyn Send>, Error> {
        let until = Instant::now() + READY_WITHIN;
        let stages = 0..definition.stages.len();
        let held = try_join_all(stages.map(|stage| self.stage_ready(definition, stage, until))).await?;
        Ok(Box::new(held))
    }
}

impl OnNodes<'_> {
    /// One stage, from its number from 0, has a replica.
    async fn stage_ready(
        &self,
        definition: &Definition,
        stage: usize,
        until: Instant,
    ) -> Result<Call, Error> {
        let wanted = placed(definition, stage);
        let (mut backoff, mut why) = (Backoff::default(), String::new());
        let service = &definition.stages[stage].service;
        let asking = async {
            loop {
                let mut nodes = self.nodes.reached();
                nodes.retain(|(_, name)| wanted.is_none_or(|wanted| wanted == name));
                if let Some(wanted) = wanted.filter(|_| nodes.is_empty()) {
                    why = format!("{wanted} is not up");
                }
                // Neighbours of the line begin with different ones.
                let first = stage % nodes.len().max(1);
                nodes.rotate_left(first);
                for (node, name) in nodes {
                    match self.prepare(definition, stage, node).await {
                        Ok(call) => return Ok(call),
                        Err(PrepareError::CannotStart { why, .. }) => {
                            return Err(Error::CannotStart(format!(
                                "stage {} ({service}) cannot be started: {why}; what ran before goes on",
                                stage + 1
                            )));
                        }
                        Err(PrepareError::Full) => why = format!("no slot is free on {name}"),
                        Err(PrepareError::Unavailable(said)) => why = format!("{name}: {said}"),
                    }
                }
                backoff.rest().await;
            }
        };
        match timeout_at(until, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Unavailable(format!(
                "stage {} ({service}) has no replica after {} s{}; what ran before goes on",
                stage + 1,
                READY_WITHIN.as_secs(),
                if why.is_empty() {
                    String::new()
                } else {
                    format!(" ({why})")
                }
            ))),
        }
    }

    /// Has a replica started on a node, or takes one that is there.
    async fn prepare(&self, definition: &Definition, stage: usize, node: u64) -> Result<Call, PrepareError> {
        let Some(there) = definition.stages.get(stage) else {
            return Err(PrepareError::Unavailable("there is no such stage".into()));
        };
        let prepare = Prepare {
            stages: vec![Wanted {
                stage: u32::try_from(stage + 1).unwrap_or(u32::MAX),
                kind: Kind {
                    service: there.service.clone(),
                    digest: there.digest.clone(),
                },
                fresh: false,
            }],
            files: definition
                .options
                .files
                .iter()
                .map(|file| file.digest.clone())
                .collect(),
            wait: false,
        };
        // Open as long as it is held: a chunk that is not the last has been sent, and none follows.
        let options = CallOptions {
            progress: true,
            receive_progress: true,
            ..CallOptions::default()
        };
        let uri = uris::of_node(node, uris::node::EXECUTOR_PREPARE);
        let call = self
            .agents
            .call(&uri, reservation::encode(&prepare), options)
            .await;
        let mut call = call.map_err(|error| failed(&error))?;
        let mut until = Instant::now() + WORD_WITHIN;
        let mut has_spoken = false;
        loop {
            let answer = timeout_at(until, call.next()).await.map_err(|_| silent())?;
            let answer = answer.map_err(|error| failed(&error))?;
            if !has_spoken {
                (until, has_spoken) = (until + NODE_WITHIN, true);
            }
            if !answer.progress {
                return Err(PrepareError::Unavailable("it gave the replica up".into()));
            }
            if let Some(Progress::Ready(_)) = Progress::parse(answer.payload.as_payload()) {
                return Ok(call);
            }
        }
    }
}

fn silent() -> PrepareError {
    PrepareError::Unavailable("it does not answer".into())
}

fn failed(error: &CallError) -> PrepareError {
    match error {
        CallError::Answered { uri, payload } => PrepareError::parse(uri, payload.as_payload()),
        CallError::Closed => PrepareError::Unavailable(error.to_people()),
    }
}

/// The node that a stage is to be on, where that is said.
fn placed(definition: &Definition, stage: usize) -> Option<&str> {
    let services = definition.stages.iter().map(|stage| stage.service.as_str());
    let services: Vec<&str> = services.collect();
    let mut places = definition.options.place.iter();
    let found = places.find(|(named, _)| stage_index(&services, named) == Ok(stage));
    found.map(|(_, node)| node.as_str())
}
