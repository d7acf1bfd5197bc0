//! Clients of the store: keys that are put once, and registers that several read and write at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;

use crate::cluster::Cluster;
use crate::history::History;
use crate::linearizable::Deed;
use crate::random;
use crate::store::Client;
use crate::wait::let_pass;

/// Registers: few, so that clients meet.
const REGISTERS: usize = 3;
/// How long an answer is waited for; what comes later is as good as none.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two requests of a client.
const PACE: Duration = Duration::from_millis(15);

/// Works as one client until it is over.
pub fn work(
    cluster: &Cluster,
    history: &History,
    client: usize,
    seed: u64,
    is_over: &AtomicBool,
) -> Result<()> {
    let mut random = random::generator(seed ^ (client as u64 + 1) << 50);
    let mut open: Option<Client> = None;
    // A number of its own for every write, so that a read says which it saw.
    for number in (client as u64 * 1_000_000_000).. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let_pass(PACE);
        let mut store = match open.take() {
            Some(store) => store,
            None => {
                let node = &cluster.nodes[random.random_range(0..cluster.nodes.len())];
                match node.is_up().then(|| node.operator_within(PATIENCE)) {
                    Some(Ok(session)) => Client::new(session),
                    _ => continue,
                }
            }
        };
        let register = random.random_range(0..REGISTERS);
        let is_answered = match random.random_range(0..4) {
            0 => {
                let (key, value) = (format!("test/kept/{number}"), format!("value {number}"));
                let put = store.put(&key, value.as_bytes());
                let is_answered = put.is_ok();
                if is_answered {
                    history.kept(key, value);
                }
                is_answered
            }
            1 => {
                let begun = history.now();
                let put = store.put(&name(register), number.to_string().as_bytes());
                history.operation(register, Deed::Write(number), begun, put.is_ok());
                put.is_ok()
            }
            _ => {
                let begun = history.now();
                match store.read(&name(register)) {
                    Ok(value) => {
                        let read = value.map(|value| parse(&value)).transpose()?;
                        history.operation(register, Deed::Read(read), begun, true);
                        true
                    }
                    Err(_) => false,
                }
            }
        };
        // After silence or an error another agent is asked: a late answer must not be taken for the next one.
        open = is_answered.then_some(store);
    }
    Ok(())
}

fn name(register: usize) -> String {
    format!("test/register/{register}")
}

fn parse(value: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(value)?;
    text.parse().with_context(|| format!("a register holds {text:?}"))
}
