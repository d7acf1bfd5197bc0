//! Bytes through a command: a block fed again and again into its stdin, its stdout read and thrown away.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{Aim, Table, hops, percentiles};
use crate::cluster::Cluster;

/// Bytes a turn.
const BYTES: u64 = 1_000_000_000;
/// Turns: each form once a turn, so that a drifting machine treats all alike.
const TURNS: usize = 3;
/// What one write and one read take at most: a large pipe's worth.
const BLOCK: usize = 256 * 1024;

/// MB/s of `total` bytes through the command.
pub fn through(mut command: Command, total: u64) -> Result<f64> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let mut stdout = child.stdout.take().context("stdout")?;
    let feeder = std::thread::spawn(move || {
        let block = vec![b'x'; BLOCK];
        let mut left = total;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            if stdin.write_all(&block[..length]).is_err() {
                break;
            }
            left -= length as u64;
        }
    });
    let mut buffer = vec![0; BLOCK];
    let mut counted = 0;
    loop {
        let length = stdout.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        counted += length as u64;
    }
    let took = begun.elapsed();
    let _ = feeder.join();
    let status = child.wait()?;
    ensure!(
        counted == total && status.success(),
        "{command:?}: {counted} of {total} bytes, {status}"
    );
    Ok(total as f64 / 1e6 / took.as_secs_f64())
}

/// `cat | cat | cat` over three agents beside what else can carry it.
pub fn measure(cluster: &Cluster, table: &mut Table) -> Result<()> {
    let hops = hops::Hops::prepare()?;
    let ours = || {
        let mut command = cluster.pipes(&[
            "run",
            "-q",
            "--place",
            "1=n1",
            "--place",
            "2=n2",
            "--place",
            "3=n3",
            "cat | cat | cat",
        ]);
        command.env("PIPES_AGENT", cluster.nodes[0].wamp());
        command
    };
    through(ours(), 50_000_000).context("a first, warming run")?;
    let mut values: [Vec<f64>; 5] = Default::default();
    for _ in 0..TURNS {
        values[0].push(through(ours(), BYTES)?);
        values[1].push(through(hops::sh(), BYTES)?);
        values[2].push(through(hops.socat_tcp()?, BYTES)?);
        values[3].push(through(hops.socat_tls()?, BYTES)?);
        values[4].push(through(hops.ssh(), BYTES / 2)?);
    }
    let [ours, sh, tcp, tls, ssh] = values.map(|values| percentiles(values).0);
    let what = "cat | cat | cat, MB/s";
    table.beside(what, ours, "sh", sh, None);
    table.beside(what, ours, "three socat TCP hops", tcp, Some(Aim::RatioMin(0.5)));
    table.beside(what, ours, "three socat TLS hops", tls, Some(Aim::RatioMin(1.0)));
    table.beside(what, ours, "three ssh hops", ssh, None);
    Ok(())
}
