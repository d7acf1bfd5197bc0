//! What one client, one workflow and all of them may ask of an agent at once.
//!
//! | what | most | beyond it |
//! |---|---|---|
//! | a body, and what is kept of a result while its client sends | `--body`, else 10 GiB | 413 |
//! | requests of a workflow at once | 256 | 429 with Retry-After |
//! | requests of an agent at once | 2,000 | 503 |
//! | a head | 64 KiB, in 10 s | 431, 408 |
//! | connections that ask for nothing yet, of a port; of one address there; of all | 2,000; 500; 4,000 | the oldest goes |
//! | silence of a client that is to send or to read | 30 s | 408, or its connection ends |
//!
//! Always: a place is held from when a head was read until the last byte of the answer was handed over, and no longer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::gateway::error::Error;

/// Bytes of a head: as many as other servers take at most.
pub const HEAD_MAX: usize = 64 << 10;
/// How long a head may take, and how long a connection may be idle between two requests.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may neither send what it announced nor take what lies ready.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Requests of one workflow at once: more than its slots serve; beyond, clients had better wait outside.
const REQUESTS_OF_WORKFLOW_MAX: usize = 256;
/// Requests of all workflows at once: each has a session of the router, and buffers of some 400 KiB at the worst.
const REQUESTS_MAX: usize = 2_000;
/// Connections of one port that ask for nothing yet: each is a descriptor and some 10 kB. A quarter of them is one address's:
/// twice the requests that one workflow serves at once.
pub const WAITING_MAX: usize = 2_000;

/// Counts requests. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    counted: Arc<Mutex<Counted>>,
    met: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Counted {
    all: usize,
    /// Of each workflow that has any.
    by_workflow: HashMap<String, usize>,
}

/// A request's place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    limits: Limits,
    workflow: String,
}

impl Limits {
    /// A place for a request of this workflow.
    pub fn enter(&self, workflow: &str) -> Result<Place, Error> {
        // The lock guards plain data, for a few lines.
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let of_workflow = counted.by_workflow.get(workflow).copied().unwrap_or(0);
        if counted.all >= REQUESTS_MAX {
            self.met.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Unavailable(format!(
                "{REQUESTS_MAX} requests are served here already; ask another server"
            )));
        }
        if of_workflow >= REQUESTS_OF_WORKFLOW_MAX {
            self.met.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Busy(format!(
                "{REQUESTS_OF_WORKFLOW_MAX} requests of workflow {workflow} are served here already; try again in a second"
            )));
        }
        counted.all += 1;
        counted.by_workflow.insert(workflow.to_owned(), of_workflow + 1);
        Ok(Place {
            limits: self.clone(),
            workflow: workflow.to_owned(),
        })
    }

    /// How often a request found no place.
    pub fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counted = self.limits.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.all = counted.all.saturating_sub(1);
        if let Some(of_workflow) = counted.by_workflow.get_mut(&self.workflow) {
            *of_workflow = of_workflow.saturating_sub(1);
            if *of_workflow == 0 {
                counted.by_workflow.remove(&self.workflow);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_fills_its_own_places_and_nobody_elses() {
        let limits = Limits::default();
        let mut places: Vec<Place> = (0..REQUESTS_OF_WORKFLOW_MAX)
            .map(|_| limits.enter("a").unwrap())
            .collect();
        assert!(matches!(limits.enter("a"), Err(Error::Busy(_))));
        let other = limits.enter("b").unwrap();
        places.pop();
        places.push(limits.enter("a").unwrap());
        drop((places, other));
        let counted = limits.counted.lock().unwrap();
        assert_eq!((counted.all, counted.by_workflow.len(), limits.met()), (0, 0, 1));
    }

    #[test]
    fn an_agent_has_so_many_places_and_no_more() {
        let limits = Limits::default();
        let places: Vec<Place> = (0..REQUESTS_MAX)
            .map(|number| {
                limits
                    .enter(&format!("w{}", number / REQUESTS_OF_WORKFLOW_MAX))
                    .unwrap()
            })
            .collect();
        assert!(matches!(limits.enter("z"), Err(Error::Unavailable(_))));
        drop(places);
        assert!(limits.enter("z").is_ok());
    }
}
