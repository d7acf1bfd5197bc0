//! A reader that ends, ends its writers at once; a stdin that nobody reads holds nothing up.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::Input;
use pipes_chaos::wait::wait_until;

/// interface.md and the README promise a second; a start of the CLI and a placing are in it.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The first run of a service starts its replicas, which is not what is timed here.
fn warm(cluster: &Cluster, line: &str) -> Result<()> {
    for _ in 0..3 {
        cluster.run(line).finish()?;
    }
    Ok(())
}

#[test]
fn head_ends_yes_within_a_second() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["yes", "head"])?;
    warm(&cluster, "yes | head -5")?;
    let (done, report) = cluster.run("yes | head -5").reported()?;
    assert_eq!(done.output(), "y\ny\ny\ny\ny\n");
    assert!(done.took < AT_ONCE, "it took {:?}", done.took);
    assert_eq!(report.statuses(), [141, 0], "{}", report.whole);
    assert_eq!(report.stages[0].signal, Some(13), "{}", report.whole);
    cluster.no_stages(Duration::from_secs(1))?;
    cluster.finish()
}

#[test]
fn a_reader_outside_ends_the_run_within_a_second() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["yes", "true"])?;
    warm(&cluster, "true")?;
    let begun = Instant::now();
    let mut command = cluster.pipes(&["run", "yes"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut line)?;
    assert_eq!(line, "y\n");
    // `| head -1` has its line and is gone: so is the reading end.
    let ended = wait_until("pipes run ends", Duration::from_secs(10), || {
        matches!(child.try_wait(), Ok(Some(_)))
    });
    let _ = child.kill();
    let status = child.wait()?;
    ended?;
    assert!(begun.elapsed() < AT_ONCE, "it took {:?}", begun.elapsed());
    // As `yes | head -1` in a shell: it died of SIGPIPE.
    assert_eq!(pipes_chaos::command::shell_status(status), 141);
    cluster.no_stages(Duration::from_secs(1))?;
    cluster.finish()
}

#[test]
fn an_open_and_empty_stdin_holds_nothing_up() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["true", "cat", "head"])?;
    warm(&cluster, "true")?;
    let done = cluster.run("true").input(Input::Open).finish()?.success()?;
    assert!(done.took < AT_ONCE, "it took {:?}", done.took);
    // And what was typed is not held back until the end of input.
    let mut command = cluster.pipes(&["run", "cat | head -1"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    std::io::Write::write_all(&mut stdin, b"typed\n")?;
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().context("stdout")?);
    stdout.read_line(&mut line)?;
    assert_eq!(line, "typed\n");
    // `cat` waits for more, as in a shell; the end of its input ends it.
    drop(stdin);
    let ended = wait_until("pipes run ends", AT_ONCE, || {
        matches!(child.try_wait(), Ok(Some(_)))
    });
    let _ = child.kill();
    assert!(child.wait()?.success());
    ended?;
    cluster.finish()
}

#[test]
fn an_early_end_travels_through_every_stage() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["yes", "cat", "tr", "head"])?;
    let (done, report) = cluster
        .run("yes | cat | tr y n | cat | cat | head -1")
        .reported()?;
    assert_eq!(done.output(), "n\n");
    assert_eq!(
        report.statuses(),
        [141, 141, 141, 141, 141, 0],
        "{}",
        report.whole
    );
    cluster.no_stages(Duration::from_secs(1))?;
    cluster.finish()
}
