//! `pipes.node.supply`: what the agent that is asked has for stages, and how much of it is taken.

use pipes_protocol::supply::Supply;
use rmpv::Value;
use serde::Serialize;

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, value};

#[derive(Debug, Serialize)]
struct Shown {
    /// Slots in use.
    used: usize,
    /// Prepares that found no slot.
    full: u64,
    /// What it tells the other nodes.
    supply: Supply,
}

pub(super) async fn own(api: &Api, _: &mut Arguments) -> Result<Value, Error> {
    let counted = api.pool.count().await;
    let (used, counters) = counted.ok_or_else(|| Error::Unavailable("this agent stops".into()))?;
    Ok(value(&Shown {
        used,
        full: counters.full,
        supply: api.pool.supply().borrow().clone(),
    }))
}
