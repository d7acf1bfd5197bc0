//! Something done to a daemon workflow while clients submit queries to it, each of which must have its one result.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cluster::Cluster;
use crate::history::History;
use crate::invariant::results;
use crate::load::jobs::Load;
use crate::random;

/// Clients, and what each rests between two queries: a hundred a second together, where the machine does as many.
const CLIENTS: usize = 10;
const PACE: Duration = Duration::from_millis(90);

/// Does something while clients submit to `workflow`, which makes small letters large; gives how many queries they were
/// answered.
pub fn meanwhile(cluster: &Cluster, workflow: &str, does: impl FnOnce() -> Result<()>) -> Result<usize> {
    let history = History::to(&cluster.file("history.jsonl"))?;
    let (is_over, left) = (AtomicBool::new(false), AtomicUsize::new(usize::MAX));
    let load = Load {
        cluster,
        history: &history,
        workflow,
        pace: PACE,
        over_wamp: false,
        left: &left,
        is_over: &is_over,
    };
    let seed = random::seed("queries");
    std::thread::scope(|scope| -> Result<()> {
        let load = &load;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || load.submit(client, seed)))
            .collect();
        let done = does();
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        done
    })?;
    let wrong = results::look(cluster, &history)?;
    ensure!(wrong.is_empty(), "{wrong:#?}");
    let count = history.told().accepted.len();
    println!("{count} queries have their results");
    Ok(count)
}
