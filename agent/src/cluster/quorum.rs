//! Whether enough voters are reached from here for the store to decide anything, and what is said where they are not.
//!
//! The store itself tries for 5 s, since an election may end at any moment. Whether there can be one is seen sooner: by
//! the links, which go at once with an agent that was killed. So whoever asks for something that cannot come is told in a
//! second who is missing, and what starts it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use pipes_raft::Store;
use tokio::sync::watch;

use crate::cluster::nodes::Nodes;
use crate::config::{Config, Executor};

/// A request that takes no longer is never looked at; and so long a majority must be missing for it to be given up.
/// Links that are made anew take less.
const HELD: Duration = Duration::from_millis(500);

/// The voters as they are reached from here. A cheap handle.
#[derive(Clone)]
pub struct Quorum {
    nodes: Nodes,
    store: Store,
    start: String,
}

/// Fewer than a majority of the voters are reached; a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    own: String,
    /// Names of those that are not reached.
    names: Vec<String>,
    start: String,
}

/// The store decided nothing in time; a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undecided(String);

impl Quorum {
    /// Of this agent's cluster.
    pub fn new(config: &Config, nodes: Nodes, store: Store) -> Quorum {
        let start = match config.executor {
            Executor::Process => format!("pipes cluster start {}", config.cluster),
        };
        Quorum { nodes, store, start }
    }

    /// The command that starts agents that are down.
    pub fn start(&self) -> &str {
        &self.start
    }

    /// Names of the nodes on record that are not reached from here.
    pub fn not_reached(&self) -> Vec<String> {
        let records = self.nodes.records().into_values();
        let others = records.filter(|record| !self.nodes.is_reached(record.id));
        others.map(|record| record.name).collect()
    }

    /// What is asked of the store, unless a majority is missing meanwhile.
    pub async fn or_missing<T>(&self, asked: impl Future<Output = T>) -> Result<T, Missing> {
        tokio::select! {
            biased;
            answer = asked => Ok(answer),
            missing = self.until_missing() => Err(missing),
        }
    }

    /// What the store decides.
    pub async fn decided<T>(
        &self,
        asked: impl Future<Output = Result<T, pipes_raft::Error>>,
    ) -> Result<Result<T, pipes_raft::Error>, Undecided> {
        match self.or_missing(asked).await {
            Ok(Err(error)) if error.is_undecided() => Err(Undecided(self.undecided())),
            Ok(answer) => Ok(answer),
            Err(missing) => Err(Undecided(missing.to_string())),
        }
    }

    /// Ends when a majority has been missing for a while.
    async fn until_missing(&self) -> Missing {
        tokio::time::sleep(HELD).await;
        let mut links = self.nodes.links();
        loop {
            while self.missing().is_none() {
                changed(&mut links).await;
            }
            let back = async {
                while self.missing().is_some() {
                    changed(&mut links).await;
                }
            };
            let is_back = tokio::time::timeout(HELD, back).await.is_ok();
            if let Some(missing) = self.missing().filter(|_| !is_back) {
                return missing;
            }
        }
    }

    /// Who is missing, where that is too many.
    pub fn missing(&self) -> Option<Missing> {
        let voters = self.store.status().voters;
        let reached = voters.iter().filter(|id| self.nodes.is_reached(**id)).count();
        if reached > voters.len() / 2 || voters.is_empty() {
            return None;
        }
        let records = self.nodes.records();
        let gone = voters.iter().filter(|id| !self.nodes.is_reached(**id));
        let names = gone.map(|id| {
            records
                .get(id)
                .map_or_else(|| id.to_string(), |record| record.name.clone())
        });
        Some(Missing {
            own: self.nodes.own_name().to_owned(),
            names: names.collect(),
            start: self.start.clone(),
        })
    }

    /// What is said of a store that did not decide in time.
    pub fn undecided(&self) -> String {
        match self.missing() {
            Some(missing) => missing.to_string(),
            None => "the cluster's servers have found no leader in time; try again, and see who is up with: pipes \
                     node ls"
                .to_owned(),
        }
    }
}

/// Waits for another set of links; for ever where the router has ended, and the agent with it.
async fn changed(links: &mut watch::Receiver<BTreeSet<u64>>) {
    if links.changed().await.is_err() {
        std::future::pending().await
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing { own, names, start } = self;
        write!(
            out,
            "too few of the cluster's servers are up for it to decide anything: {} cannot be reached from {own}; start \
             what is down with: {start}",
            listed(names)
        )
    }
}

/// Names as a sentence has them.
pub fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_missing_is_named_with_the_command_that_starts_it() {
        let missing = Missing {
            own: "n1".into(),
            names: vec!["n2".into(), "n3".into()],
            start: "pipes cluster start local".into(),
        };
        assert_eq!(
            missing.to_string(),
            "too few of the cluster's servers are up for it to decide anything: n2 and n3 cannot be reached from n1; \
             start what is down with: pipes cluster start local"
        );
    }

    #[test]
    fn names_are_listed_as_a_sentence_has_them() {
        let names = |count| ["n1", "n2", "n3"].map(String::from)[..count].to_vec();
        assert_eq!(listed(&names(1)), "n1");
        assert_eq!(listed(&names(3)), "n1, n2 and n3");
    }
}
