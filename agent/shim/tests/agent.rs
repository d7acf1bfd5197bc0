//! An agent for one shim: it welcomes it, and hands messages to and fro.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use pipes_wamp::message::{EMPTY_MAP, InvocationDetails, Message, Payload};
use pipes_wamp::payload::{PayloadBuf, bytes_arg};
use pipes_wamp::transport::rawsocket::MESSAGE_MAX;
use pipes_wamp::transport::rawsocket::{self, FrameKind, HEAD};
use rmpv::Value;

pub const STAGE: u64 = 71;
pub const PIPE: u64 = 72;

/// How long a test waits for the shim to say something.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct Agent {
    pub folder: tempfile::TempDir,
    pub shim: Child,
    listener: UnixListener,
    stream: UnixStream,
    last_request: u64,
    cgroup: Option<PathBuf>,
    /// Where the disk of its own is mounted.
    pub disk: Option<PathBuf>,
}

/// What the shim said, owned.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Call {
        request: u64,
        progress: bool,
        procedure: String,
        bytes: Vec<u8>,
        args: Vec<Value>,
    },
    Cancel(u64),
    Yield {
        request: u64,
        progress: bool,
        args: Vec<Value>,
    },
    Error {
        request: u64,
        error: String,
        why: String,
    },
}

/// How a shim is started.
pub struct Options {
    pub executable: PathBuf,
    pub service: &'static str,
    pub slots: usize,
    pub window: usize,
    pub with_cgroup: bool,
    /// Scratch directories lie on a disk of their own of so many bytes, where this user may make one.
    pub disk: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        let executable = PathBuf::from("/bin/sh");
        Options {
            executable,
            service: "sh",
            slots: 4,
            window: 1 << 20,
            with_cgroup: false,
            disk: None,
        }
    }
}

/// Lets in whoever connects in time.
fn accept(listener: &UnixListener) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    crate::wait_until("the shim connects", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl Agent {
    /// Starts a shim and lets it join.
    pub fn start(options: Options) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let cgroup = options.with_cgroup.then(|| make_cgroup(folder.path())).flatten();
        let disk = options
            .disk
            .and_then(|bytes| mount(folder.path().join("scratch"), bytes));
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipes-shim"));
        command.env_clear().envs([
            ("PIPES_SOCKET", socket.to_str().unwrap()),
            ("PIPES_REPLICA", "rep1"),
            ("PIPES_TOKEN", "secret-of-this-test"),
            ("PIPES_NODE", "cluster/1"),
            ("PIPES_NODE_NUMBER", "1"),
            ("PIPES_SERVICE", options.service),
            ("PIPES_EXECUTABLE", options.executable.to_str().unwrap()),
            ("PIPES_SCRATCH", folder.path().join("scratch").to_str().unwrap()),
            ("PATH", "/usr/bin:/bin"),
        ]);
        command.env("PIPES_SLOTS", options.slots.to_string());
        command.env("PIPES_WINDOW", options.window.to_string());
        if let Some(cgroup) = &cgroup {
            command.env("PIPES_CGROUP", cgroup);
        }
        let shim = command.spawn().unwrap();
        let stream = accept(&listener);
        let mut agent = Agent {
            folder,
            shim,
            listener,
            stream,
            last_request: 0,
            cgroup,
            disk,
        };
        agent.welcome();
        agent
    }

    /// Lets the shim in that opens a session of its own for a file.
    pub fn file_call(&mut self) -> FileCall {
        let stream = accept(&self.listener);
        let main = std::mem::replace(&mut self.stream, stream);
        self.let_in();
        let mut call = FileCall {
            stream: std::mem::replace(&mut self.stream, main),
            request: 0,
            digest: String::new(),
            credit: 0,
        };
        call.take_chunk();
        call
    }

    fn welcome(&mut self) {
        self.let_in();
        for (registration, name) in [(STAGE, "stage"), (PIPE, "pipe")] {
            let request = self.receive(|message| match message {
                Message::Register {
                    request, procedure, ..
                } => {
                    assert_eq!(procedure, format!("pipes.node.1.replica.rep1.{name}"));
                    request
                }
                other => panic!("{other:?}"),
            });
            self.send(Message::Registered {
                request,
                registration,
            });
        }
    }

    fn let_in(&mut self) {
        let mut octets = [0; HEAD];
        self.stream.read_exact(&mut octets).unwrap();
        let (answer, _) = rawsocket::accept(octets).unwrap();
        self.stream.write_all(&answer).unwrap();
        self.receive(|message| match message {
            Message::Hello { realm, details } => {
                assert_eq!((realm, details.authid), ("pipes.stages", Some("rep1")));
            }
            other => panic!("{other:?}"),
        });
        self.send(Message::Challenge {
            method: "ticket",
            extra: EMPTY_MAP,
        });
        self.receive(|message| {
            let Message::Authenticate { signature, .. } = message else {
                panic!("{message:?}")
            };
            assert_eq!(signature, "secret-of-this-test");
        });
        self.send(Message::Welcome {
            session: 5,
            details: EMPTY_MAP,
        });
    }

    pub fn send(&mut self, message: Message<'_>) {
        send(&mut self.stream, &message);
    }

    /// Opens a call to the shim; its request.
    pub fn invoke(&mut self, registration: u64, args: Vec<Value>) -> u64 {
        self.last_request += 1;
        self.chunk(self.last_request, registration, args, true);
        self.last_request
    }

    /// A chunk of a call.
    pub fn chunk(&mut self, request: u64, registration: u64, args: Vec<Value>, progress: bool) {
        let payload = PayloadBuf::of_values(args, None);
        let details = InvocationDetails {
            progress,
            receive_progress: true,
            ..Default::default()
        };
        self.send(Message::Invocation {
            request,
            registration,
            details,
            payload: payload.as_payload(),
        });
    }

    /// A result of a call that the shim made.
    pub fn result(&mut self, request: u64, args: Vec<Value>, progress: bool) {
        let payload = PayloadBuf::of_values(args, None);
        self.send(Message::Result {
            request,
            progress,
            payload: payload.as_payload(),
        });
    }

    /// The next thing the shim says.
    pub fn next(&mut self) -> Said {
        self.receive(|message| match message {
            Message::Call {
                request,
                options,
                procedure,
                payload,
            } => {
                let bytes = bytes_arg(payload).unwrap_or_default().to_vec();
                let args = if bytes.is_empty() {
                    payload.args().unwrap()
                } else {
                    Vec::new()
                };
                let (progress, procedure) = (options.progress, procedure.to_owned());
                Said::Call {
                    request,
                    progress,
                    procedure,
                    bytes,
                    args,
                }
            }
            Message::Cancel { request, .. } => Said::Cancel(request),
            Message::Yield {
                request,
                progress,
                payload,
            } => Said::Yield {
                request,
                progress,
                args: payload.args().unwrap(),
            },
            Message::Error {
                request,
                error,
                payload,
                ..
            } => Said::Error {
                request,
                error: error.to_owned(),
                why: first_text(payload),
            },
            other => panic!("{other:?}"),
        })
    }

    fn receive<T>(&mut self, read: impl FnOnce(Message<'_>) -> T) -> T {
        receive(&mut self.stream, read)
    }

    /// Folders of the replica that are left, its own excepted.
    pub fn scratch(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("scratch/rep1"))
            .unwrap()
            .flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name != "bin").collect()
    }

    /// Closes the connection; the shim's exit status.
    pub fn close(&mut self) -> Option<i32> {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
        self.shim.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        let _ = self.shim.wait();
        if let Some(disk) = &self.disk {
            let path = std::ffi::CString::new(disk.to_str().unwrap()).unwrap();
            // SAFETY: takes away what `mount` made.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
        if let Some(cgroup) = &self.cgroup {
            let removed = std::fs::remove_dir(cgroup);
            assert!(
                removed.is_ok() || std::thread::panicking(),
                "the shim left cgroups: {removed:?}"
            );
        }
    }
}

/// A file that the shim has asked for.
pub struct FileCall {
    stream: UnixStream,
    request: u64,
    pub digest: String,
    /// Bytes that it takes.
    pub credit: u64,
}

impl FileCall {
    fn take_chunk(&mut self) {
        receive(&mut self.stream, |message| {
            let Message::Call {
                request,
                procedure,
                payload,
                ..
            } = message
            else {
                panic!("{message:?}")
            };
            assert_eq!(procedure, "pipes.node.1.file");
            self.request = request;
            for (name, value) in payload.kwargs().unwrap() {
                match name.as_str() {
                    "digest" => self.digest = value.as_str().unwrap().to_owned(),
                    "credit" => self.credit = value.as_u64().unwrap(),
                    other => panic!("{other}"),
                }
            }
            let args = payload.args().unwrap();
            self.credit += args.first().map_or(0, |credit| credit.as_u64().unwrap());
        });
    }

    /// Sends bytes as there is credit.
    pub fn give(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(60_000) {
            while self.credit < part.len() as u64 {
                self.take_chunk();
            }
            self.credit -= part.len() as u64;
            self.answer(&PayloadBuf::of_bytes(part), true);
        }
    }

    /// Says that this was all.
    pub fn end(mut self, size: u64) {
        self.answer(&PayloadBuf::of_values(vec![size.into()], None), false);
    }

    /// Whether the shim has given it up.
    pub fn is_given_up(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }

    fn answer(&mut self, payload: &PayloadBuf, progress: bool) {
        let answer = Message::Result {
            request: self.request,
            progress,
            payload: payload.as_payload(),
        };
        send(&mut self.stream, &answer);
    }
}

fn send(stream: &mut UnixStream, message: &Message<'_>) {
    let mut out = Vec::new();
    rawsocket::frame(&mut out, |out| message.encode(out));
    stream.write_all(&out).unwrap();
}

fn receive<T>(stream: &mut UnixStream, read: impl FnOnce(Message<'_>) -> T) -> T {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).expect("the shim says nothing");
    let (kind, length) = rawsocket::read_frame_head(head, MESSAGE_MAX).unwrap();
    assert_eq!(kind, FrameKind::Message);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    read(Message::parse(&body).unwrap())
}

fn first_text(payload: Payload<'_>) -> String {
    payload
        .args()
        .unwrap()
        .first()
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// A disk in memory, where this user may mount one.
fn mount(folder: PathBuf, bytes: u64) -> Option<PathBuf> {
    std::fs::create_dir(&folder).unwrap();
    let path = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
    let size = std::ffi::CString::new(format!("size={bytes}")).unwrap();
    let kind = c"tmpfs".as_ptr();
    // SAFETY: the strings live across the call, and the mount ends with the agent of this test.
    let mounted = unsafe { libc::mount(kind, path.as_ptr(), kind, 0, size.as_ptr().cast()) };
    if mounted < 0 {
        let error = std::io::Error::last_os_error();
        eprintln!("without a disk of its own: {error}");
        return None;
    }
    Some(folder)
}

/// A cgroup for the replica, where this user may make one.
fn make_cgroup(folder: &Path) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    let name = folder.file_name()?.to_str()?.trim_start_matches('.');
    let path = Path::new(mount.split(' ').nth(1)?).join(format!("pipes-shim-test-{name}"));
    match std::fs::create_dir(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            eprintln!("without a cgroup: {}: {error}", path.display());
            None
        }
    }
}
