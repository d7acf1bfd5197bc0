//! What `--place` says: which stage, on which node. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::workflow::placement::Node;

/// Why a stage that a user named is none of the line's, or not one alone. The option that named it goes before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// The user's: no such stage number.
    #[error("{stage}: the line has {stages} stage{}, numbered from 1", if *.stages == 1 { "" } else { "s" })]
    NoStage {
        /// As given.
        stage: String,
        /// How many there are.
        stages: usize,
    },
    /// The user's: no stage of that service.
    #[error("{stage}: no stage runs {stage}; name one of the line or give its number from 1")]
    NoService {
        /// As given.
        stage: String,
    },
    /// The user's: several stages of that service.
    #[error("{stage}: stages {numbers} run {stage}; give a number")]
    Ambiguous {
        /// As given.
        stage: String,
        /// `1 and 3`.
        numbers: String,
    },
}

/// Why stages cannot be placed as wished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The user's: the stage.
    #[error("--place {0}")]
    Stage(#[from] StageError),
    /// The user's: two wishes for one stage.
    #[error("--place: stage {number} is placed twice, on {first} and on {second}; give one node")]
    Twice {
        /// The stage, from 1.
        number: usize,
        /// One node.
        first: String,
        /// The other.
        second: String,
    },
    /// The user's, or the node's: it may be back in a moment.
    #[error("--place {stage}={node}: no node {node} is up; there {are} {live}", are = if .live.contains(' ') { "are" } else { "is" })]
    NoNode {
        /// As given.
        stage: String,
        /// The node as given.
        node: String,
        /// Names of those that are.
        live: String,
    },
    /// Nobody's: the node that was asked for was lost just now.
    #[error("--place {stage}={node}: node {node} does not take this run now")]
    Avoided {
        /// As given.
        stage: String,
        /// The node as given.
        node: String,
    },
    /// None is live, or every one was tried and failed.
    #[error("no node takes this run now")]
    NoneLeft,
}

/// The stages that `--place` speaks of, each with its node's index.
pub(super) fn fixed(
    services: &[&str],
    nodes: &[Node],
    wanted: &BTreeMap<String, String>,
    avoid: &BTreeSet<u64>,
) -> Result<Vec<Option<usize>>, Error> {
    let mut placed: Vec<Option<usize>> = vec![None; services.len()];
    for (stage, node) in wanted {
        let index = stage_index(services, stage)?;
        let found = nodes
            .iter()
            .position(|known| known.name == *node)
            .ok_or_else(|| {
                let names: Vec<&str> = nodes.iter().map(|known| known.name.as_str()).collect();
                let live = if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                };
                Error::NoNode {
                    stage: stage.clone(),
                    node: node.clone(),
                    live,
                }
            })?;
        if avoid.contains(&nodes[found].id) {
            return Err(Error::Avoided {
                stage: stage.clone(),
                node: node.clone(),
            });
        }
        match &placed[index] {
            Some(first) if *first != found => {
                return Err(Error::Twice {
                    number: index + 1,
                    first: nodes[*first].name.clone(),
                    second: node.clone(),
                });
            }
            _ => placed[index] = Some(found),
        }
    }
    Ok(placed)
}

/// Which stage `stage` names: its number from 1, or its service's name where one stage has it.
pub fn stage_index(services: &[&str], stage: &str) -> Result<usize, StageError> {
    let by_name: Vec<usize> = (0..services.len())
        .filter(|index| services[*index] == stage)
        .collect();
    match (by_name.as_slice(), stage.parse::<usize>()) {
        // A number is a number, even where a service is called `7z` or `1`.
        (_, Ok(number)) if (1..=services.len()).contains(&number) => Ok(number - 1),
        ([index], _) => Ok(*index),
        ([], Ok(_)) => Err(StageError::NoStage {
            stage: stage.to_owned(),
            stages: services.len(),
        }),
        ([], Err(_)) => Err(StageError::NoService {
            stage: stage.to_owned(),
        }),
        ([first @ .., last], _) => {
            let first: Vec<String> = first.iter().map(|index| (index + 1).to_string()).collect();
            let numbers = format!("{} and {}", first.join(", "), last + 1);
            Err(StageError::Ambiguous {
                stage: stage.to_owned(),
                numbers,
            })
        }
    }
}
