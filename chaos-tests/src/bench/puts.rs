//! Puts a second through `pipes.store.txn`, one session a client, spread over three agents, beside the disk's own rate
//! of fdatasync.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Aim, Table, milliseconds, percentiles};
use crate::cluster::Cluster;
use crate::wait::let_pass;

/// How long puts are made for one figure.
const TIME: Duration = Duration::from_secs(5);
/// A put's value: a small record.
const VALUE: [u8; 100] = [b'v'; 100];

/// How often a second a small append is made durable, in the cluster's own file system.
fn sync_rate(cluster: &Cluster) -> Result<f64> {
    let mut file = File::create(cluster.file("synced"))?;
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed() < TIME {
        file.write_all(&VALUE)?;
        // SAFETY: the descriptor is the open file's.
        ensure!(
            unsafe { libc::fdatasync(file.as_raw_fd()) } == 0,
            "{}",
            std::io::Error::last_os_error()
        );
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

/// Puts a second, and every put's time in milliseconds.
fn puts(cluster: &Cluster, clients: usize) -> Result<(f64, Vec<f64>)> {
    let stop = AtomicBool::new(false);
    let times = Mutex::new(Vec::new());
    let mut sessions = (0..clients)
        .map(|client| cluster.store(client % 3))
        .collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let failed = std::thread::scope(|scope| {
        let threads: Vec<_> = sessions
            .iter_mut()
            .enumerate()
            .map(|(number, client)| {
                let (stop, times) = (&stop, &times);
                scope.spawn(move || -> Result<()> {
                    let mut own = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let begun = Instant::now();
                        client.put(&format!("bench/{number}/{}", own.len() % 100), &VALUE)?;
                        own.push(milliseconds(begun.elapsed()));
                    }
                    times
                        .lock()
                        .map_err(|_| anyhow::anyhow!("a client panicked"))?
                        .extend(own);
                    Ok(())
                })
            })
            .collect();
        let_pass(TIME);
        stop.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .filter_map(|thread| thread.join().map_or(None, Result::err))
            .next()
    });
    if let Some(error) = failed {
        return Err(error).context("a put");
    }
    let took = begun.elapsed();
    let times = times
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a client panicked"))?;
    Ok((times.len() as f64 / took.as_secs_f64(), times))
}

/// At 1, 64 and 256 clients.
pub fn measure(cluster: &Cluster, table: &mut Table) -> Result<()> {
    let disk = "fdatasync/s";
    for (clients, aim) in [
        (1, Aim::RatioMax(1.0)),
        (64, Aim::RatioMin(2.0)),
        (256, Aim::RatioMin(2.0)),
    ] {
        // The disk is asked anew beside each figure: its rate drifts.
        let synced = sync_rate(cluster)?;
        let (rate, times) = puts(cluster, clients)?;
        let (_, p99) = percentiles(times);
        table.beside(
            format!("store puts/s, {clients} clients"),
            rate,
            disk,
            synced,
            Some(aim),
        );
        table.figure("  their p99, ms", p99, (clients == 64).then_some(Aim::Max(20.0)));
    }
    Ok(())
}
