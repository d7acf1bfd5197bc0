//! Calls a second, and megabytes a second of a progressive call, through one shard, across two, and through a bare
//! forwarder.
//!
//! The clients are as lean as clients can be: messages made once and patched, many written at a time, and nothing
//! parsed but a request's number. They run beside the router on the same cores, as the forwarder's do.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rmpv::Value;

use super::{Aim, Table, forwarder, percentiles};
use crate::cluster::Cluster;
use crate::wamp::{Address, Session, Stream, map, pack};

/// How long calls are made for one figure.
const TIME: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 2 });
/// Turns of each figure.
const TURNS: usize = 3;
/// Chunks of a progressive call.
const CHUNK: usize = 64 * 1024;
/// Bytes of a progressive call.
const STREAM: u64 = if cfg!(test) { 1_000_000 } else { 1_000_000_000 };

/// Frames out of a stream, without a copy for each.
struct Frames {
    stream: Stream,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Frames {
    fn new(stream: Stream) -> Frames {
        Frames {
            stream,
            buffer: vec![0; 512 * 1024],
            from: 0,
            to: 0,
        }
    }

    /// Whether a whole frame lies in the buffer already.
    fn is_ready(&self) -> bool {
        self.to - self.from >= 4 && self.to - self.from >= 4 + self.length()
    }

    fn length(&self) -> usize {
        let head = &self.buffer[self.from..];
        u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize
    }

    /// The next message's range in the buffer.
    fn next(&mut self) -> Result<std::ops::Range<usize>> {
        while !self.is_ready() {
            if self.buffer.len() - self.from < CHUNK * 2 {
                self.buffer.copy_within(self.from..self.to, 0);
                self.to -= self.from;
                self.from = 0;
            }
            let length = self.stream.read(&mut self.buffer[self.to..])?;
            ensure!(length > 0, "the connection ended");
            self.to += length;
        }
        ensure!(
            self.buffer[self.from] == 0,
            "a frame of kind {}",
            self.buffer[self.from]
        );
        let start = self.from + 4;
        self.from = start + self.length();
        Ok(start..self.from)
    }
}

/// An unsigned number in MessagePack and its length.
fn unsigned(bytes: &[u8]) -> Result<(u64, usize)> {
    let wide = |from: usize, length: usize| -> Result<u64> {
        let bytes = bytes.get(from..from + length).context("a number's octets")?;
        Ok(bytes
            .iter()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    };
    Ok(match *bytes.first().context("a number")? {
        small @ 0..=0x7f => (u64::from(small), 1),
        0xcc => (wide(1, 1)?, 2),
        0xcd => (wide(1, 2)?, 3),
        0xce => (wide(1, 4)?, 5),
        0xcf => (wide(1, 8)?, 9),
        other => bail!("{other:#x} begins no number"),
    })
}

/// A message's kind and request number.
fn kind_and_request(message: &[u8]) -> Result<(u64, u64)> {
    let (kind, length) = unsigned(message.get(1..).context("a message")?)?;
    let (request, _) = unsigned(&message[1 + length..])?;
    Ok((kind, request))
}

fn frame(out: &mut Vec<u8>, items: u8, parts: &[&[u8]]) {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a bench's messages are under 16 MiB"
    )]
    out.extend_from_slice(&(length as u32).to_be_bytes());
    out.push(0x90 | items);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Answers every invocation with one small argument, until the connection ends.
fn answer(stream: Stream) -> Result<()> {
    let mut frames = Frames::new(stream);
    let mut out = Vec::new();
    loop {
        let range = frames.next()?;
        let message = &frames.buffer[range];
        let (kind, request) = kind_and_request(message)?;
        // A progressive invocation is answered once, at its last chunk: the one whose details do not say so.
        let more = message[..message.len().min(120)]
            .windows(9)
            .any(|window| window == b"progress\xc3");
        if kind == 68 && !more {
            frame(
                &mut out,
                4,
                &[&pack(&70.into()), &pack(&request.into()), &[0x80], &[0x91, 0x01]],
            );
        }
        if !frames.is_ready() && !out.is_empty() {
            frames.stream.write_all(&out)?;
            out.clear();
        }
    }
}

/// Calls a second with so many in flight.
fn calls(stream: Stream, procedure: &str, in_flight: usize) -> Result<f64> {
    let mut frames = Frames::new(stream);
    let uri = pack(&procedure.into());
    let mut out = Vec::new();
    let mut request = 1_000_u64;
    let mut call = |out: &mut Vec<u8>| {
        request += 1;
        frame(
            out,
            5,
            &[&[48], &pack(&request.into()), &[0x80], &uri, &[0x91, 0x01]],
        );
    };
    for _ in 0..in_flight {
        call(&mut out);
    }
    frames.stream.write_all(&out)?;
    out.clear();
    let begun = Instant::now();
    let mut done = 0_u64;
    let mut open = in_flight;
    while open > 0 {
        let range = frames.next()?;
        let (kind, _) = kind_and_request(&frames.buffer[range])?;
        ensure!(kind == 50, "a call was answered by a message of kind {kind}");
        done += 1;
        if begun.elapsed() < TIME {
            call(&mut out);
        } else {
            open -= 1;
        }
        if !frames.is_ready() && !out.is_empty() {
            frames.stream.write_all(&out)?;
            out.clear();
        }
    }
    Ok(done as f64 / begun.elapsed().as_secs_f64())
}

/// MB/s of one progressive call.
fn progressive(mut stream: Stream, procedure: &str) -> Result<f64> {
    let uri = pack(&procedure.into());
    let options = pack(&map(vec![("progress", Value::Boolean(true))]));
    let mut payload = vec![0x91, 0xc6];
    #[expect(clippy::cast_possible_truncation, reason = "64 KiB")]
    payload.extend_from_slice(&(CHUNK as u32).to_be_bytes());
    payload.extend(std::iter::repeat_n(b'x', CHUNK));
    let request = pack(&999.into());
    let mut chunk = Vec::new();
    frame(&mut chunk, 5, &[&[48], &request, &options, &uri, &payload]);
    let mut last = Vec::new();
    frame(&mut last, 4, &[&[48], &request, &[0x80], &uri]);
    let begun = Instant::now();
    for _ in 0..STREAM / CHUNK as u64 {
        stream.write_all(&chunk)?;
    }
    stream.write_all(&last)?;
    let mut frames = Frames::new(stream);
    let range = frames.next()?;
    let (kind, _) = kind_and_request(&frames.buffer[range])?;
    ensure!(
        kind == 50,
        "the progressive call was answered by a message of kind {kind}"
    );
    Ok(STREAM as f64 / 1e6 / begun.elapsed().as_secs_f64())
}

/// The three figures over one way; `connect` gives a callee's stream and a caller's.
fn figures(connect: impl Fn() -> Result<(Stream, Stream, String)>) -> Result<[f64; 3]> {
    let mut values: [Vec<f64>; 3] = Default::default();
    for _ in 0..TURNS {
        for (index, in_flight) in [Some(1), Some(64), None].into_iter().enumerate() {
            let (callee, caller, procedure) = connect()?;
            let thread = std::thread::spawn(move || answer(callee));
            values[index].push(match in_flight {
                Some(in_flight) => calls(caller, &procedure, in_flight)?,
                None => progressive(caller, &procedure)?,
            });
            drop(thread);
        }
    }
    Ok(values.map(|values| percentiles(values).0))
}

fn through_agents(cluster: &Cluster, callee: usize, caller: usize) -> Result<(Stream, Stream, String)> {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let procedure = format!(
        "com.example.bench.{}",
        NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    );
    let join = |node: usize| {
        Session::join(
            &Address::Tcp(cluster.nodes[node].wamp()),
            "default",
            "anonymous",
            None,
        )
    };
    let mut callee = join(callee)?;
    callee.register(&procedure)?.map_err(anyhow::Error::msg)?;
    Ok((callee.stream, join(caller)?.stream, procedure))
}

/// One shard, two shards, and the forwarder.
pub fn measure(cluster: &Cluster, table: &mut Table) -> Result<()> {
    let bare = figures(|| {
        let (callee, caller) = forwarder::start()?;
        Ok((callee, caller, "com.example.bench.bare".to_owned()))
    })
    .context("the bare forwarder")?;
    let same = figures(|| through_agents(cluster, 0, 0)).context("one shard")?;
    let across = figures(|| through_agents(cluster, 1, 0)).context("across")?;
    let name = "bare forwarder";
    table.beside(
        "WAMP calls/s, 1 in flight, one shard",
        same[0],
        name,
        bare[0],
        Some(Aim::RatioMin(0.5)),
    );
    table.beside(
        "WAMP calls/s, 1 in flight, across",
        across[0],
        name,
        bare[0],
        None,
    );
    table.beside(
        "WAMP calls/s, 64 in flight, one shard",
        same[1],
        name,
        bare[1],
        Some(Aim::Min(100_000.0)),
    );
    table.beside(
        "WAMP calls/s, 64 in flight, across",
        across[1],
        name,
        bare[1],
        None,
    );
    table.beside(
        "progressive MB/s, 64 KiB, one shard",
        same[2],
        name,
        bare[2],
        Some(Aim::Min(600.0)),
    );
    table.beside("progressive MB/s, 64 KiB, across", across[2], name, bare[2], None);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_measure_a_forwarder() {
        let figures = figures(|| {
            let (callee, caller) = forwarder::start()?;
            Ok((callee, caller, "com.example.bench.bare".to_owned()))
        });
        let figures = figures.unwrap();
        println!("{figures:?}");
        assert!(figures.iter().all(|figure| *figure > 0.0), "{figures:?}");
    }
}
