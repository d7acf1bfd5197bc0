//! A program run with a limit, and what came of it.
//!
//! Output and errors are read by threads while stdin is fed by another, so that no full pipe can stop the test. A
//! program that outlives its limit is killed and the test fails with what it had written so far.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a command takes unless it says otherwise: far more than any line of a test needs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a program's stdin is.
pub enum Input {
    /// `/dev/null`.
    None,
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// This file, as it is.
    File(PathBuf),
    /// This file through a pipe, as `cat FILE |` gives it.
    Cat(PathBuf),
    /// This much of one byte, then the end.
    Repeat(u8, u64),
    /// A pipe that stays open and empty until the program has ended.
    Open,
    /// Bytes without end, until the program takes no more.
    Endless,
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Finished {
    /// The raw status.
    pub status: ExitStatus,
    /// Everything it wrote to stdout.
    pub stdout: Vec<u8>,
    /// Everything it wrote to stderr.
    pub stderr: Vec<u8>,
    /// From its start to its exit.
    pub took: Duration,
}

impl Finished {
    /// The status as a shell gives it: 128+n after signal n.
    pub fn code(&self) -> i32 {
        shell_status(self.status)
    }

    /// stdout as text.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// stderr as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Itself if the status was 0, else an error with all it said.
    pub fn success(self) -> Result<Self> {
        self.expect(0)
    }

    /// Itself if the status was `code`, else an error with all it said.
    pub fn expect(self, code: i32) -> Result<Self> {
        if self.code() == code {
            return Ok(self);
        }
        bail!(
            "status {} instead of {code}; stdout: {:?}; stderr: {}",
            self.code(),
            head(&self.output()),
            self.errors()
        )
    }
}

fn head(text: &str) -> String {
    text.chars().take(400).collect()
}

/// A status as a shell gives it.
pub fn shell_status(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

/// A program under way, its streams in the hands of threads.
pub struct Running {
    child: Child,
    begun: Instant,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    /// Held while stdin shall stay open.
    stdin: Option<std::process::ChildStdin>,
    feeder: Option<JoinHandle<u64>>,
    cat: Option<Child>,
    ended: bool,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Whether it has exited.
    pub fn is_over(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        crate::proc::signal(self.pid(), signal)
    }

    /// Its stdin, where the input was `Open`: dropping it is the end of input.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.stdin.take()
    }

    /// Waits for its exit.
    pub fn finish(self) -> Result<Finished> {
        self.finish_within(LIMIT)
    }

    /// Waits for its exit, at most so long.
    pub fn finish_within(mut self, limit: Duration) -> Result<Finished> {
        let waited = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().context("wait for a program")? {
                break status;
            }
            if waited.elapsed() > limit {
                let _ = self.child.kill();
                let _ = self.child.wait();
                self.ended = true;
                self.stdin = None;
                let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
                bail!(
                    "still running after {limit:?}; stdout: {:?}; stderr: {stderr}",
                    head(&stdout)
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        self.ended = true;
        let took = self.begun.elapsed();
        self.stdin = None;
        let stdout = self
            .stdout
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        let stderr = self
            .stderr
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        if let Some(feeder) = self.feeder.take() {
            let _ = feeder.join();
        }
        if let Some(mut cat) = self.cat.take() {
            let _ = cat.wait();
        }
        Ok(Finished {
            status,
            stdout,
            stderr,
            took,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if let Some(mut cat) = self.cat.take() {
            let _ = cat.kill();
            let _ = cat.wait();
        }
    }
}

fn text(thread: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = thread.and_then(|thread| thread.join().ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// Writes `total` times `byte` until nobody reads; gives what was taken.
fn feed(mut to: impl Write, byte: u8, total: u64) -> u64 {
    let block = vec![byte; 256 * 1024];
    let mut written = 0;
    while written < total {
        let len = block
            .len()
            .min(usize::try_from(total - written).unwrap_or(usize::MAX));
        match to.write(&block[..len]) {
            Ok(0) | Err(_) => break,
            Ok(taken) => written += taken as u64,
        }
    }
    written
}

/// Starts a program.
pub fn start(mut command: Command, input: Input) -> Result<Running> {
    let mut cat = None;
    let stdin = match &input {
        Input::Cat(path) => {
            let mut child = Command::new("cat")
                .arg(path)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()?;
            let output = child.stdout.take().context("cat's stdout")?;
            cat = Some(child);
            output.into()
        }
        Input::None => Stdio::null(),
        Input::File(path) => std::fs::File::open(path)
            .with_context(|| format!("open {}", path.display()))?
            .into(),
        Input::Bytes(_) | Input::Repeat(..) | Input::Open | Input::Endless => Stdio::piped(),
    };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let pipe = child.stdin.take();
    let (stdin, feeder) = match (input, pipe) {
        (Input::Bytes(bytes), Some(mut pipe)) => {
            let thread = std::thread::spawn(move || match pipe.write_all(&bytes) {
                Ok(()) => bytes.len() as u64,
                Err(_) => 0,
            });
            (None, Some(thread))
        }
        (Input::Repeat(byte, total), Some(pipe)) => {
            (None, Some(std::thread::spawn(move || feed(pipe, byte, total))))
        }
        (Input::Endless, Some(pipe)) => (None, Some(std::thread::spawn(move || feed(pipe, b'z', u64::MAX)))),
        (Input::Open, pipe) => (pipe, None),
        _ => (None, None),
    };
    Ok(Running {
        child,
        begun,
        stdout,
        stderr,
        stdin,
        feeder,
        cat,
        ended: false,
    })
}

/// Runs a program to its end.
pub fn run(command: Command, input: Input) -> Result<Finished> {
    start(command, input)?.finish()
}

/// A tool that a test needs, found on PATH or where administrators' programs lie; missing, the test fails.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"])
        .map(|folder| PathBuf::from(folder).join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is not installed: scripts/tools test installs it"))
}
