//! A break is never taken for the end of the input: whatever is lost in mid-stream, the reader does not go on as if
//! it had been given everything.

use std::time::Duration;

use anyhow::{Context, Result};
use pipes_chaos::cluster::{Cluster, GONE_LIMIT, START_LIMIT};
use pipes_chaos::command::{Input, Running};
use pipes_chaos::wait::{let_pass, wait_until};

/// How often each kind of break is tried; `scripts/chaos` multiplies it by five.
const TIMES: usize = 5;
/// A link over which nothing is acknowledged is lost after 3 s; its calls' stages are then ended.
const CUT_LIMIT: Duration = Duration::from_secs(8);
/// One whose agent does not answer is lost after 10 s.
const SILENT_LIMIT: Duration = Duration::from_secs(18);
/// Enough has flowed that every window and pipe on the way has been full.
const FLOWED: u64 = 4_000_000;

struct Stream {
    cluster: Cluster,
    file: std::path::PathBuf,
}

impl Stream {
    fn new() -> Result<Stream> {
        let cluster = Cluster::start(3)?;
        cluster.build(&["cat", "sh"])?;
        let file = cluster.write("F", b"")?;
        Ok(Stream { cluster, file })
    }

    /// The line under way: coordinator n1, `cat` on n2, the reader on n3.
    fn begin(&self) -> Result<Running> {
        let reader = format!("cat >/dev/null; echo done >>{}", self.file.display());
        let line = format!("cat | sh -c '{reader}'");
        let running = self
            .cluster
            .run(&line)
            .placed(&["n2", "n3"])
            .through(0)
            .input(Input::Endless)
            .start()?;
        self.cluster.stages_run(3)?;
        let before = self.traffic()?;
        self.flows(before)?;
        Ok(running)
    }

    /// The bytes that have gone between n2 and n3.
    fn traffic(&self) -> Result<u64> {
        let (n2, n3) = (&self.cluster.nodes[1].address, &self.cluster.nodes[2].address);
        pipes_chaos::fault::traffic(n2, n3)
    }

    /// Waits until much more than `before` has.
    fn flows(&self, before: u64) -> Result<()> {
        wait_until("bytes flow from n2 to n3", Duration::from_secs(10), || {
            self.traffic().is_ok_and(|now| now > before + FLOWED)
        })?;
        Ok(())
    }

    fn nothing_was_done(&self) -> Result<()> {
        let written = std::fs::read_to_string(&self.file).context("read F")?;
        assert_eq!(written, "", "the reader took the break for the end of its input");
        Ok(())
    }

    /// The run is over and so is everything of it, and the reader did not go on.
    fn ends(&self, running: Running, limit: Duration) -> Result<()> {
        self.cluster.no_stages(limit)?;
        let done = running.finish_within(limit)?;
        assert_ne!(done.code(), 0, "a broken run ended with 0");
        self.nothing_was_done()
    }
}

#[test]
fn the_reader_notices_its_real_end() -> Result<()> {
    // Without this the other tests would show nothing.
    let stream = Stream::new()?;
    let reader = format!("cat >/dev/null; echo done >>{}", stream.file.display());
    stream
        .cluster
        .run(&format!("cat | sh -c '{reader}'"))
        .input(Input::Repeat(b'x', 1 << 20))
        .finish()?
        .success()?;
    assert_eq!(std::fs::read_to_string(&stream.file)?, "done\n");
    stream.cluster.finish()
}

#[test]
fn when_the_cli_is_killed() -> Result<()> {
    let stream = Stream::new()?;
    for _ in 0..crate::repetitions(TIMES) {
        let running = stream.begin()?;
        running.signal(libc::SIGKILL)?;
        stream.ends(running, GONE_LIMIT)?;
    }
    stream.cluster.finish()
}

#[test]
fn when_the_first_stages_agent_is_killed() -> Result<()> {
    let stream = Stream::new()?;
    for _ in 0..crate::repetitions(TIMES) {
        let running = stream.begin()?;
        stream.cluster.kill(1)?;
        stream.ends(running, GONE_LIMIT)?;
        stream.cluster.start_again()?;
        stream.cluster.all_up(START_LIMIT)?;
    }
    stream.cluster.finish()
}

#[test]
fn when_the_coordinator_is_killed() -> Result<()> {
    let stream = Stream::new()?;
    for _ in 0..crate::repetitions(TIMES) {
        let running = stream.begin()?;
        stream.cluster.kill(0)?;
        stream.ends(running, GONE_LIMIT)?;
        stream.cluster.start_again()?;
        stream.cluster.all_up(START_LIMIT)?;
    }
    stream.cluster.finish()
}

#[test]
fn when_the_link_between_two_stages_is_cut() -> Result<()> {
    let stream = Stream::new()?;
    for _ in 0..crate::repetitions(TIMES) {
        let running = stream.begin()?;
        let cut = stream.cluster.cut(1, 2)?;
        stream.ends(running, CUT_LIMIT)?;
        cut.heal()?;
        stream.cluster.all_up(START_LIMIT)?;
        // A healed link carries runs again; until it is back the agents refuse, which is no wrong end either.
        pipes_chaos::wait::wait_for("the healed link carries a run", START_LIMIT, || {
            stream
                .cluster
                .run("cat | cat")
                .placed(&["n2", "n3"])
                .input(Input::Bytes(vec![b'x'; 10]))
                .finish()?
                .success()
        })?;
    }
    stream.cluster.finish()
}

#[test]
fn when_an_agent_is_stopped_for_too_long_and_goes_on_later() -> Result<()> {
    let stream = Stream::new()?;
    stream.cluster.build(&["sleep"])?;
    let running = stream.begin()?;
    let coordinated = stream
        .cluster
        .run("sleep 600")
        .placed(&["n3"])
        .through(1)
        .start()?;
    stream.cluster.stages_run(4)?;
    stream.cluster.pause(1)?;
    running.finish_within(SILENT_LIMIT)?.expect(125)?;
    // Whoever asked the agent itself hears nothing of it, and is told so.
    let done = coordinated.finish_within(SILENT_LIMIT)?.expect(125)?;
    assert!(done.errors().contains("it has said nothing for 10 s"), "{done:?}");
    stream.nothing_was_done()?;
    stream.cluster.resume(1)?;
    stream.cluster.no_stages(GONE_LIMIT)?;
    stream.nothing_was_done()?;
    stream.cluster.finish()
}

/// Its kernel takes what the others send until its buffers are full, and then says so: it is slow, not dead.
#[test]
fn an_agent_that_stands_still_for_a_while_loses_no_run() -> Result<()> {
    let stream = Stream::new()?;
    let mut running = stream.begin()?;
    for (node, time) in [(1, 5), (2, 2), (0, 2)] {
        stream.cluster.pause(node)?;
        let_pass(Duration::from_secs(time));
        let before = stream.traffic()?;
        stream.cluster.resume(node)?;
        stream.flows(before)?;
        assert!(!running.is_over(), "the run was lost");
    }
    running.signal(libc::SIGKILL)?;
    stream.ends(running, GONE_LIMIT)?;
    stream.cluster.finish()
}
