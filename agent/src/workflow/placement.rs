//! Which node runs which stage.
//!
//! ```text
//! stages a b c d   nodes 1 2 3, asked at 2        2 3 1 2
//! the same, --place 3=n2                          2 3 2 1      the others go on in turn
//! the same, node 3 to be avoided                  2 1 2 1
//! ```
//!
//! Always: (1) a stage that was given a node is on that node or the line is refused; (2) the others go round the live
//! nodes in the order of their ids, beginning with the coordinator's own, so that neighbours in the line are spread; (3)
//! the choice depends on the arguments alone.

use std::collections::{BTreeMap, BTreeSet};

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

/// Gives each of `services` (the stages' names in the line's order) a node of `live`, which is sorted by id.
///
/// `wanted` maps a stage, by its number from 1 or its service's name, to a node's name; `avoid` are nodes that failed this
/// run before its start; `own` is where the spread begins.
pub fn place(
    services: &[&str],
    live: &[(u64, String)],
    wanted: &BTreeMap<String, String>,
    avoid: &BTreeSet<u64>,
    own: u64,
) -> Result<Vec<(u64, String)>, Error> {
    let mut placed = fixed(services, live, wanted, avoid)?;
    let mut free: Vec<&(u64, String)> = live.iter().filter(|(id, _)| !avoid.contains(id)).collect();
    free.sort_by_key(|(id, _)| *id);
    let first = free.iter().position(|(id, _)| *id >= own).unwrap_or(0);
    free.rotate_left(first);
    let mut turns = free.into_iter().cycle();
    for stage in &mut placed {
        if stage.is_none() {
            *stage = Some(turns.next().ok_or(Error::NoneLeft)?.clone());
        }
    }
    Ok(placed.into_iter().flatten().collect())
}

/// The stages that `--place` speaks of.
fn fixed(
    services: &[&str],
    live: &[(u64, String)],
    wanted: &BTreeMap<String, String>,
    avoid: &BTreeSet<u64>,
) -> Result<Vec<Option<(u64, String)>>, Error> {
    let mut placed: Vec<Option<(u64, String)>> = vec![None; services.len()];
    for (stage, node) in wanted {
        let index = stage_index(services, stage)?;
        let found = live.iter().find(|(_, name)| name == node).ok_or_else(|| {
            let names: Vec<&str> = live.iter().map(|(_, name)| name.as_str()).collect();
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
        if avoid.contains(&found.0) {
            return Err(Error::Avoided {
                stage: stage.clone(),
                node: node.clone(),
            });
        }
        match &placed[index] {
            Some((_, first)) if first != node => {
                return Err(Error::Twice {
                    number: index + 1,
                    first: first.clone(),
                    second: node.clone(),
                });
            }
            _ => placed[index] = Some(found.clone()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[u64]) -> Vec<(u64, String)> {
        ids.iter().map(|id| (*id, format!("n{id}"))).collect()
    }

    fn wish(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(stage, node)| ((*stage).to_owned(), (*node).to_owned()))
            .collect()
    }

    fn ids(
        services: &[&str],
        live: &[u64],
        wanted: &[(&str, &str)],
        avoid: &[u64],
        own: u64,
    ) -> Result<Vec<u64>, String> {
        let avoid = avoid.iter().copied().collect();
        place(services, &nodes(live), &wish(wanted), &avoid, own)
            .map(|placed| placed.into_iter().map(|(id, _)| id).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn stages_go_round_the_nodes_from_the_coordinators_own() {
        assert_eq!(
            ids(&["a", "b", "c", "d"], &[1, 2, 9], &[], &[], 2),
            Ok(vec![2, 9, 1, 2])
        );
        assert_eq!(ids(&["a", "b"], &[1], &[], &[], 1), Ok(vec![1, 1]));
        assert_eq!(
            ids(
                &["a", "b", "c"],
                &[1, 2, 3],
                &[("1", "n1"), ("2", "n2"), ("c", "n3")],
                &[],
                3
            ),
            Ok(vec![1, 2, 3])
        );
    }

    #[test]
    fn a_stage_that_was_given_a_node_takes_no_turn() {
        assert_eq!(
            ids(&["a", "b", "c", "d"], &[1, 2, 3], &[("3", "n2")], &[], 2),
            Ok(vec![2, 3, 2, 1])
        );
        assert_eq!(
            ids(&["a", "b"], &[1, 2, 3], &[("b", "n3")], &[], 1),
            Ok(vec![1, 3])
        );
        assert_eq!(ids(&["7", "b"], &[1, 2], &[("7", "n2")], &[], 1), Ok(vec![2, 1]));
        assert_eq!(
            ids(&["2", "b"], &[1, 2], &[("2", "n2")], &[], 1),
            Ok(vec![1, 2]),
            "a number comes first"
        );
    }

    #[test]
    fn avoided_nodes_get_nothing() {
        assert_eq!(ids(&["a", "b", "c"], &[1, 2, 3], &[], &[2], 2), Ok(vec![3, 1, 3]));
        let one_left = ids(&["a"], &[1], &[], &[1], 1);
        assert_eq!(one_left, Err("no node takes this run now".into()));
        let wanted = ids(&["a"], &[1, 2], &[("1", "n2")], &[2], 1);
        assert_eq!(
            wanted,
            Err("--place 1=n2: node n2 does not take this run now".into())
        );
        assert!(ids(&["a"], &[], &[], &[], 1).is_err());
    }

    #[test]
    fn wishes_that_cannot_be_met_are_refused_in_a_sentence() {
        let refuse =
            |wanted: &[(&str, &str)]| ids(&["cat", "sort", "cat"], &[1, 2], wanted, &[], 1).unwrap_err();
        assert_eq!(
            refuse(&[("4", "n1")]),
            "--place 4: the line has 3 stages, numbered from 1"
        );
        assert_eq!(
            refuse(&[("0", "n1")]),
            "--place 0: the line has 3 stages, numbered from 1"
        );
        assert_eq!(
            refuse(&[("wc", "n1")]),
            "--place wc: no stage runs wc; name one of the line or give its number from 1"
        );
        assert_eq!(
            refuse(&[("cat", "n1")]),
            "--place cat: stages 1 and 3 run cat; give a number"
        );
        assert_eq!(
            refuse(&[("1", "n7")]),
            "--place 1=n7: no node n7 is up; there are n1, n2"
        );
        let twice = refuse(&[("2", "n1"), ("sort", "n2")]);
        assert_eq!(
            twice,
            "--place: stage 2 is placed twice, on n1 and on n2; give one node"
        );
    }
}
