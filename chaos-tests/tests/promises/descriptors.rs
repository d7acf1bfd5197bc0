//! The caller's 0, 1 and 2, whatever they are: a line ends on a cluster as it does in `sh` with the same three.
//!
//! Each case is one descriptor of one kind beside two usual ones, given to `pipes run LINE` and to `sh -c LINE`; status,
//! what was written to each of 1 and 2, and what is left in a pipe that was given the wrong way round are compared.

use std::fs::File;
use std::io::{Read, Seek, Write, pipe};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::shell_status;
use pipes_chaos::wait::wait_until;

const WORDS: &[u8] = b"some words\n";

/// What a descriptor may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A file, read from its beginning or written to.
    File,
    /// A file with something in it, opened to append.
    Append,
    /// A pipe with the other end at hand.
    Pipe,
    /// A socket with the other end at hand.
    Socket,
    Null,
    /// Nothing at all.
    Closed,
    /// A file that is open the other way.
    WrongFile,
    /// /dev/null, open the other way.
    WrongNull,
    /// The other end of a pipe.
    WrongPipe,
    Folder,
    /// A pipe whose other end is closed.
    Gone,
    /// A socket whose other end is closed.
    GoneSocket,
    Full,
}

/// Kinds that no writer without end survives.
const ENDING: [Kind; 8] = [
    Kind::Closed,
    Kind::WrongFile,
    Kind::WrongNull,
    Kind::WrongPipe,
    Kind::Folder,
    Kind::Gone,
    Kind::GoneSocket,
    Kind::Full,
];

/// Kinds that something may be written to.
const OPEN: [Kind; 5] = [Kind::File, Kind::Append, Kind::Pipe, Kind::Socket, Kind::Null];

/// A descriptor to give away, and what tells afterwards what came of it.
struct Given {
    /// `None`: closed.
    fd: Option<OwnedFd>,
    seen: Seen,
}

enum Seen {
    Nothing,
    File(File),
    Pipe(OwnedFd),
}

impl Given {
    fn of(number: i32, kind: Kind, folder: &Path) -> Result<Given> {
        let is_input = number == 0;
        let path = folder.join(format!("{kind:?}{number}"));
        std::fs::write(&path, WORDS)?;
        let read = || File::open(&path);
        let write = || File::options().write(true).truncate(true).open(&path);
        let device = |name: &str, is_input: bool| File::options().read(is_input).write(!is_input).open(name);
        let of_file = |fd: File, seen: Seen| Given {
            fd: Some(fd.into()),
            seen,
        };
        Ok(match kind {
            Kind::File if is_input => of_file(read()?, Seen::Nothing),
            Kind::File => of_file(write()?, Seen::File(read()?)),
            Kind::Append if is_input => {
                let both = File::options().read(true).append(true).open(&path)?;
                of_file(both, Seen::File(read()?))
            }
            Kind::Append => of_file(File::options().append(true).open(&path)?, Seen::File(read()?)),
            Kind::Null => of_file(device("/dev/null", is_input)?, Seen::Nothing),
            Kind::Full => of_file(device("/dev/full", is_input)?, Seen::Nothing),
            Kind::Folder => of_file(File::open(folder)?, Seen::Nothing),
            Kind::WrongFile if is_input => of_file(write()?, Seen::Nothing),
            Kind::WrongFile => of_file(read()?, Seen::File(read()?)),
            Kind::WrongNull => of_file(device("/dev/null", !is_input)?, Seen::Nothing),
            Kind::Closed => Given {
                fd: None,
                seen: Seen::Nothing,
            },
            Kind::Pipe | Kind::WrongPipe | Kind::Gone => {
                let (reader, mut writer) = pipe()?;
                if is_input || kind == Kind::WrongPipe {
                    writer.write_all(WORDS)?;
                }
                let gives_reader = is_input == (kind != Kind::WrongPipe);
                let (fd, other): (OwnedFd, OwnedFd) = match gives_reader {
                    true => (reader.into(), writer.into()),
                    false => (writer.into(), reader.into()),
                };
                // An input's writer is done; the reader of an output sees all of it afterwards.
                let seen = match kind == Kind::Gone || (is_input && kind == Kind::Pipe) {
                    true => Seen::Nothing,
                    false if gives_reader => Seen::Pipe(fd.try_clone()?),
                    false => Seen::Pipe(other),
                };
                Given { fd: Some(fd), seen }
            }
            Kind::Socket | Kind::GoneSocket => {
                let (ours, mut theirs) = UnixStream::pair()?;
                if is_input {
                    theirs.write_all(WORDS)?;
                    theirs.shutdown(Shutdown::Write)?;
                }
                let seen = match kind {
                    Kind::Socket => Seen::Pipe(theirs.into()),
                    _ => Seen::Nothing,
                };
                let fd = Some(ours.into());
                Given { fd, seen }
            }
        })
    }

    /// All that was written to it, or left in it.
    fn seen(self) -> Result<String> {
        let Given { fd, seen } = self;
        drop(fd);
        let mut bytes = Vec::new();
        match seen {
            Seen::Nothing => {}
            Seen::File(mut file) => {
                file.rewind()?;
                file.read_to_end(&mut bytes)?;
            }
            Seen::Pipe(fd) => {
                // A socket that was left with something unread says so at its end.
                let _ = File::from(fd).read_to_end(&mut bytes);
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Status, and what was seen of 0, 1 and 2.
type Came = (i32, [String; 3]);

/// Runs a command with one descriptor of a kind, the others files.
fn came_of(mut command: Command, number: i32, kind: Kind) -> Result<Came> {
    let folder = tempfile::tempdir()?;
    let of = |own: i32| {
        let kind = if own == number { kind } else { Kind::File };
        Given::of(own, kind, folder.path())
    };
    let mut given = [of(0)?, of(1)?, of(2)?];
    // The command has the descriptors, and nobody else: a pipe ends with it.
    let mut stdio = given.each_mut().map(|given| given.fd.take().map(Stdio::from));
    let closed = (0..3).find(|own| stdio[*own].is_none());
    command.stdin(stdio[0].take().unwrap_or_else(Stdio::null));
    command.stdout(stdio[1].take().unwrap_or_else(Stdio::null));
    command.stderr(stdio[2].take().unwrap_or_else(Stdio::null));
    if let Some(closed) = closed {
        // SAFETY: close is async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                libc::close(closed as i32);
                Ok(())
            })
        };
    }
    let mut child = command.spawn().context("start it")?;
    drop(command);
    let ended = wait_until("it ends", Duration::from_secs(20), || {
        matches!(child.try_wait(), Ok(Some(_)))
    });
    let _ = child.kill();
    let status = child.wait()?;
    ended?;
    let [stdin, stdout, stderr] = given;
    Ok((
        shell_status(status),
        [stdin.seen()?, stdout.seen()?, stderr.seen()?],
    ))
}

/// `sh -c LINE` in an empty directory, each name the executable.
fn shell(line: &str, folder: &Path) -> Command {
    let stages: Vec<String> = line.split(" | ").map(|stage| format!("env {stage}")).collect();
    let mut sh = Command::new("sh");
    sh.arg("-c").arg(stages.join(" | ")).current_dir(folder);
    sh
}

/// Lines worth to be run with a kind at a descriptor.
fn lines(number: i32, kind: Kind) -> Vec<&'static str> {
    let mut lines = match number {
        0 => vec!["head -c 3", "true", "head -c 3 | cat"],
        1 => vec![
            "echo hi",
            "true",
            "sh -c 'exit 3'",
            "sh -c 'echo x; exit 3'",
            "cat",
            "echo hi | cat",
        ],
        _ => vec![
            "sh -c 'echo o; echo e >&2'",
            "sh -c 'echo e >&2; exit 4' | cat",
            "true",
        ],
    };
    match number {
        0 if kind != Kind::Full => lines.push("cat"),
        1 if ENDING.contains(&kind) => lines.push("yes"),
        2 if ENDING.contains(&kind) => lines.extend(["sh -c 'yes >&2'", "sh -c 'yes >&2' | cat"]),
        _ => {}
    }
    lines
}

#[test]
fn each_standard_descriptor_ends_as_in_sh() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat", "echo", "head", "sh", "true", "yes"])?;
    let folder = tempfile::tempdir()?;
    let mut wrong = Vec::new();
    for number in 0..3 {
        for kind in OPEN.into_iter().chain(ENDING) {
            for line in lines(number, kind) {
                // interface.md: a closed stdin, as cron leaves it, is none.
                let of_sh = if (number, kind) == (0, Kind::Closed) {
                    Kind::Null
                } else {
                    kind
                };
                let correct = came_of(shell(line, folder.path()), number, of_sh)?;
                let ours = came_of(cluster.pipes(&["run", line]), number, kind)
                    .with_context(|| format!("{number} {kind:?}: {line}"))?;
                if ours != correct {
                    wrong.push(format!(
                        "{number} {kind:?}: {line}\n    sh    {correct:?}\n    pipes {ours:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    cluster.no_stages(Duration::from_secs(1))?;
    cluster.finish()
}

#[test]
fn a_reader_that_leaves_while_the_run_is_on_ends_its_writers() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["sh", "yes", "cat"])?;
    for line in [
        "sh -c 'yes >&2'",
        "sh -c 'yes >&2' | cat",
        "yes",
        "sh -c 'trap \"\" PIPE; yes; exit 3'",
    ] {
        let status = |mut command: Command| -> Result<i32> {
            let (mut reader, writer) = pipe()?;
            command
                .stdin(Stdio::null())
                .stdout(writer.try_clone()?)
                .stderr(writer);
            let mut child = command.spawn()?;
            drop(command);
            let mut first = [0];
            reader.read_exact(&mut first)?;
            drop(reader);
            let ended = wait_until("it ends", Duration::from_secs(20), || {
                matches!(child.try_wait(), Ok(Some(_)))
            });
            let _ = child.kill();
            let status = child.wait()?;
            ended?;
            Ok(shell_status(status))
        };
        let correct = status(shell(line, cluster.home()))?;
        let own = status(cluster.pipes(&["run", "-n", line])).context(line)?;
        assert_eq!(own, correct, "{line}");
    }
    cluster.no_stages(Duration::from_secs(1))?;
    cluster.finish()
}
