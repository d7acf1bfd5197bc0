//! Waiting for a state, with a limit: the only place in these tests that sleeps in order to look again.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long to wait between two looks: short beside every limit a test names.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `state` is true; after `limit` it fails, naming `what`.
pub fn wait_until(what: &str, limit: Duration, mut state: impl FnMut() -> bool) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        if state() {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > limit {
            bail!("after {limit:?} still not so: {what}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// Looks until `value` gives something; after `limit` it fails, naming `what` and the last error.
pub fn wait_for<T>(what: &str, limit: Duration, mut value: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match value() {
            Ok(value) => return Ok(value),
            Err(error) if begun.elapsed() > limit => {
                return Err(error.context(format!("after {limit:?} still not to be had: {what}")));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Lets time pass where passing time is the fault itself (a pause, a stream that must have begun to flow).
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}
