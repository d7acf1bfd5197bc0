//! The promises of Pipes, each shown on a real cluster: a module a topic, a test a promise.
//!
//! `scripts/test` builds the binaries and runs these one at a time; a test alone is
//! `scripts/test --test-threads 1 NAME`, or `cargo test -p pipes-chaos --test main NAME` where they are built.
//! `PIPES_REPEAT=N` (set by `scripts/chaos`) multiplies the repetitions of the fault tests.

#[path = "promises/bodies.rs"]
mod bodies;
#[path = "promises/break_is_no_end.rs"]
mod break_is_no_end;
#[path = "promises/chaos.rs"]
mod chaos;
#[path = "promises/check.rs"]
mod check;
#[path = "promises/collection.rs"]
mod collection;
#[path = "promises/commands.rs"]
mod commands;
#[path = "promises/daemon.rs"]
mod daemon;
#[path = "promises/damage.rs"]
mod damage;
#[path = "promises/descriptors.rs"]
mod descriptors;
#[path = "promises/differ.rs"]
mod differ;
#[path = "promises/differential.rs"]
mod differential;
#[path = "promises/durability.rs"]
mod durability;
#[path = "promises/early_end.rs"]
mod early_end;
#[path = "promises/ended.rs"]
mod ended;
#[path = "promises/errors.rs"]
mod errors;
#[path = "promises/examples.rs"]
mod examples;
#[path = "promises/files.rs"]
mod files;
#[path = "promises/gateway.rs"]
mod gateway;
#[path = "promises/hostile.rs"]
mod hostile;
#[path = "promises/interrupt.rs"]
mod interrupt;
#[path = "promises/jobs.rs"]
mod jobs;
#[path = "promises/limits.rs"]
mod limits;
#[path = "promises/listings.rs"]
mod listings;
#[path = "promises/load.rs"]
mod load;
#[path = "promises/logs.rs"]
mod logs;
#[path = "promises/many_jobs.rs"]
mod many_jobs;
#[path = "promises/options.rs"]
mod options;
#[path = "promises/pipe_clients.rs"]
mod pipe_clients;
#[path = "promises/power_loss.rs"]
mod power_loss;
#[path = "promises/progress.rs"]
mod progress;
#[path = "promises/readme.rs"]
mod readme;
#[path = "promises/reasons.rs"]
mod reasons;
#[path = "promises/replicas.rs"]
mod replicas;
#[path = "promises/rewinding.rs"]
mod rewinding;
#[path = "promises/rights.rs"]
mod rights;
#[path = "promises/shim.rs"]
mod shim;
#[path = "promises/space.rs"]
mod space;
#[path = "promises/streaming.rs"]
mod streaming;
#[path = "promises/supply.rs"]
mod supply;
#[path = "promises/tokens.rs"]
mod tokens;
#[path = "promises/told.rs"]
mod told;
#[path = "promises/unknown.rs"]
mod unknown;
#[path = "promises/wamp_bytes.rs"]
mod wamp_bytes;

/// How often a fault test repeats: `usual` in `scripts/test`, a multiple of it in `scripts/chaos`.
fn repetitions(usual: usize) -> usize {
    let factor = std::env::var("PIPES_REPEAT")
        .ok()
        .and_then(|text| text.parse::<usize>().ok())
        .unwrap_or(1);
    usual * factor
}
