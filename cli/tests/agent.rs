//! An agent that plays a part: one WAMP session over RawSocket, driven message by message by the test.

#![allow(clippy::unwrap_used, reason = "a part that cannot be played fails its test")]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rmpv::Value;

/// Whatever a test waits for, it fails after this.
pub const LIMIT: Duration = Duration::from_secs(20);

/// WAMP's message types that matter here.
const WELCOME: u64 = 2;
const ABORT: u64 = 3;
const ERROR: u64 = 8;
const CALL: u64 = 48;
const RESULT: u64 = 50;

/// A fake agent: the address it listens at, and its part, which ends when the session does.
pub struct Agent {
    pub address: SocketAddr,
    part: JoinHandle<()>,
}

impl Agent {
    /// Plays `part` to the first client that joins.
    pub fn play(part: impl FnOnce(&mut Session) + Send + 'static) -> Agent {
        Agent::meet(|mut session| {
            session.welcome();
            part(&mut session);
        })
    }

    /// Turns the first client away.
    pub fn turn_away(reason: &'static str) -> Agent {
        Agent::meet(|mut session| {
            session.send(vec![ABORT.into(), Value::Map(vec![]), reason.into()]);
            session.until_gone();
        })
    }

    fn meet(part: impl FnOnce(Session) + Send + 'static) -> Agent {
        let (address, listener) = listen();
        let part = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            part(Session::greeted(stream));
        });
        Agent { address, part }
    }

    /// Waits for the part's end; what it asserted must hold.
    pub fn finish(self) {
        self.part.join().unwrap();
    }
}

/// The folder of the agent that people know by this address: its operators' socket lies there.
pub fn folder(address: SocketAddr) -> PathBuf {
    std::env::temp_dir().join(format!("pipes-cli-{}/{}", std::process::id(), address.port()))
}

/// An address that no agent of this test has, and no agent listens for.
pub fn dead() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    SocketAddr::from(([127, 0, 0, 1], NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// The socket of an agent, and the address that it goes by.
pub fn listen() -> (SocketAddr, UnixListener) {
    let address = dead();
    let folder = folder(address);
    std::fs::create_dir_all(&folder).unwrap();
    (address, UnixListener::bind(folder.join("agent.sock")).unwrap())
}

/// The agent's end of a session.
pub struct Session {
    stream: UnixStream,
    request: u64,
}

/// One chunk of the call `pipes.run.start`.
#[derive(Debug, Default, PartialEq)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    pub keywords: Vec<(String, Value)>,
}

impl Chunk {
    pub fn keyword(&self, name: &str) -> Option<&Value> {
        self.keywords
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }
}

impl Session {
    fn greeted(mut stream: UnixStream) -> Session {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut octets = [0; 4];
        stream.read_exact(&mut octets).unwrap();
        assert_eq!(
            (octets[0], octets[1] & 0x0f),
            (0x7f, 2),
            "RawSocket with MessagePack"
        );
        stream.write_all(&[0x7f, 0xf2, 0, 0]).unwrap();
        let mut session = Session { stream, request: 0 };
        let hello = session.message().unwrap();
        assert_eq!(hello[1].as_str(), Some("pipes"), "the operators' realm");
        session
    }

    fn welcome(&mut self) {
        let roles = Value::Map(vec![(
            "roles".into(),
            Value::Map(vec![("dealer".into(), Value::Map(vec![]))]),
        )]);
        self.send(vec![WELCOME.into(), 77.into(), roles]);
    }

    fn message(&mut self) -> Option<Vec<Value>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        match rmpv::decode::read_value(&mut &body[..]).unwrap() {
            Value::Array(elements) => Some(elements),
            other => panic!("no message: {other}"),
        }
    }

    fn send(&mut self, elements: Vec<Value>) {
        let mut body = Vec::new();
        rmpv::encode::write_value(&mut body, &Value::Array(elements)).unwrap();
        let mut frame = (body.len() as u32).to_be_bytes().to_vec();
        frame.extend(body);
        // A client that is gone fails the test by what it did not do.
        let _ = self.stream.write_all(&frame);
    }

    /// The next chunk of the call; `None` when the client is gone.
    pub fn chunk(&mut self) -> Option<Chunk> {
        loop {
            let message = self.message()?;
            if message[0].as_u64() != Some(CALL) {
                continue;
            }
            self.request = message[1].as_u64().unwrap();
            let bytes = message
                .get(4)
                .and_then(|args| args[0].as_slice())
                .unwrap_or_default()
                .to_vec();
            let keywords = message
                .get(5)
                .and_then(Value::as_map)
                .cloned()
                .unwrap_or_default();
            let keywords = keywords
                .into_iter()
                .map(|(key, value)| (key.as_str().unwrap().to_owned(), value));
            return Some(Chunk {
                bytes,
                keywords: keywords.collect(),
            });
        }
    }

    fn progress(&mut self, args: Vec<Value>, keywords: Vec<(Value, Value)>) {
        let details = Value::Map(vec![("progress".into(), true.into())]);
        self.send(vec![
            RESULT.into(),
            self.request.into(),
            details,
            Value::Array(args),
            Value::Map(keywords),
        ]);
    }

    /// The agent takes so much more of stdin.
    pub fn credit(&mut self, bytes: u64) {
        self.progress(vec![0.into()], vec![("credit".into(), bytes.into())]);
    }

    pub fn stdout(&mut self, bytes: &[u8]) {
        self.progress(vec![1.into(), Value::Binary(bytes.to_vec())], vec![]);
    }

    pub fn stderr(&mut self, bytes: &[u8]) {
        self.progress(
            vec![2.into(), Value::Binary(bytes.to_vec())],
            vec![("stage".into(), 1.into())],
        );
    }

    /// The run is over with this status.
    pub fn end(&mut self, exit: i64) {
        self.end_saying(exit, None);
    }

    pub fn end_saying(&mut self, exit: i64, message: Option<&str>) {
        let run = vec![
            ("id".into(), "r1".into()),
            (
                "state".into(),
                if exit == 0 { "succeeded" } else { "failed" }.into(),
            ),
            ("status".into(), exit.into()),
            ("exit".into(), exit.into()),
            ("message".into(), message.map_or(Value::Nil, Value::from)),
        ];
        let run = Value::Array(vec![Value::Map(run)]);
        self.send(vec![RESULT.into(), self.request.into(), Value::Map(vec![]), run]);
        self.until_gone();
    }

    /// There is no run.
    pub fn refuse(&mut self, uri: &str, args: Vec<Value>) {
        let head = vec![
            ERROR.into(),
            CALL.into(),
            self.request.into(),
            Value::Map(vec![]),
            uri.into(),
        ];
        self.send(head.into_iter().chain([Value::Array(args)]).collect());
        self.until_gone();
    }

    /// A real agent's session outlives the call; closed with something unread, TCP would take back what was sent.
    fn until_gone(&mut self) {
        while self.message().is_some() {}
    }
}
