//! Terms and votes never go back, and are on disk when they are told. One leader a term: a vote names a term and who
//! leads in it, and openraft takes the later of two candidates of one term for the higher; so it is the leadership
//! (term, node) that is one.

use std::collections::{BTreeMap, BTreeSet};

use pipes_raft::sim::{Deed, Event};

use crate::history::History;

type Vote = (u64, u64, bool);

/// The votes of all hosts.
#[derive(Default)]
pub struct Leaders {
    votes: BTreeMap<String, Vote>,
    elected: BTreeSet<(u64, u64)>,
}

impl Leaders {
    /// Looks at a vote.
    pub fn take(&mut self, event: &Event, history: &mut History) {
        let host = &event.host;
        match &event.deed {
            Deed::VoteKept { vote, is_synced } => {
                if !is_synced {
                    history.fail(format!(
                        "{host} says that a vote is on disk, and a power loss would take it"
                    ));
                }
                let known = self.votes.get(host).copied().unwrap_or_default();
                if *vote < known {
                    history.fail(format!("{host} votes {vote:?} after {known:?}"));
                }
                self.votes.insert(host.clone(), *vote);
                if vote.2 {
                    self.elected.insert((vote.0, vote.1));
                }
            }
            Deed::LogOpened { vote, .. } => {
                let known = self.votes.get(host).copied();
                if *vote < known {
                    history.fail(format!(
                        "{host} has forgotten a vote: it has {vote:?}, and had {known:?}"
                    ));
                }
            }
            _ => {}
        }
    }

    /// Forgets a host's vote.
    pub fn forget(&mut self, host: &str) {
        self.votes.remove(host);
    }

    /// How many leaders were elected.
    pub fn count(&self) -> u64 {
        self.elected.len() as u64
    }
}
