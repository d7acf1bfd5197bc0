//! WAMP over RawSocket with MessagePack, octet by octet: a client that shares no code with the product.
//!
//! ```text
//! handshake   7F F2 00 00            magic, 2^(9+15) octets at most and serializer 2 (MessagePack), reserved
//! frame       00 LL LL LL ...        kind (0 message, 1 ping, 2 pong) and length, then the message
//! CALL        [48, 1, {}, "com.x", [1, 2]]
//! ```
//!
//! Messages are sent as bytes that the caller made, and received as bytes beside their parsed form, so that a test
//! can say whether an argument arrived as it was written.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rmpv::Value;

/// How long an answer may take before the test fails.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The features a client announces: what calls and streams need.
const FEATURES: [&str; 4] = [
    "progressive_call_results",
    "progressive_call_invocations",
    "call_canceling",
    "call_timeout",
];

/// Where a router listens.
#[derive(Clone, Debug)]
pub enum Address {
    /// `ADDRESS:PORT`.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A connection that has no protocol yet.
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a socket in the file system.
    Unix(UnixStream),
}

impl Stream {
    /// Connects.
    pub fn connect(address: &Address) -> Result<Stream> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER_LIMIT))?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream =
                    UnixStream::connect(path).with_context(|| format!("connect to {}", path.display()))?;
                stream.set_read_timeout(Some(ANSWER_LIMIT))?;
                Stream::Unix(stream)
            }
        };
        Ok(stream)
    }

    /// A second handle to the same connection.
    pub fn duplicate(&self) -> Result<Stream> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        })
    }

    /// How long a read may wait.
    pub fn read_limit(&self, limit: Duration) -> Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(limit))?,
            Stream::Unix(stream) => stream.set_read_timeout(Some(limit))?,
        }
        Ok(())
    }

    /// Exchanges the RawSocket handshake.
    pub fn handshake(&mut self) -> Result<()> {
        self.write_all(&[0x7f, 0xf2, 0, 0])?;
        let mut answer = [0; 4];
        self.read_exact(&mut answer).context("the handshake's answer")?;
        ensure!(
            answer[0] == 0x7f && answer[1] & 0x0f == 2,
            "the handshake was answered {answer:02x?}"
        );
        Ok(())
    }

    /// Sends one message.
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        let mut frame = Vec::with_capacity(message.len() + 4);
        frame.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
        frame.extend_from_slice(message);
        self.write_all(&frame).context("send a message")
    }

    /// Receives one message into `buffer`; answers pings on the way.
    pub fn receive(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        loop {
            let mut head = [0; 4];
            self.read_exact(&mut head).context("receive a message")?;
            let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
            buffer.resize(length, 0);
            self.read_exact(buffer).context("receive a message's body")?;
            match head[0] & 7 {
                0 => return Ok(()),
                1 => {
                    head[0] = 2;
                    self.write_all(&head)?;
                    self.write_all(buffer)?;
                }
                _ => {}
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(buffer),
            Stream::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A value as MessagePack.
pub fn pack(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = rmpv::encode::write_value(&mut bytes, value);
    bytes
}

/// A map with text keys.
pub fn map(entries: Vec<(&str, Value)>) -> Value {
    Value::Map(
        entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

/// The head of a message of `items` elements, and then its parts as they are.
pub fn assemble(items: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![0x90 | items];
    for part in parts {
        message.extend_from_slice(part);
    }
    message
}

/// A message as it came, and parsed.
#[derive(Debug)]
pub struct Message {
    /// Its octets.
    pub bytes: Vec<u8>,
    /// Its elements.
    pub items: Vec<Value>,
}

impl Message {
    fn parse(bytes: Vec<u8>) -> Result<Message> {
        let value = rmpv::decode::read_value(&mut bytes.as_slice()).context("a message in MessagePack")?;
        let Value::Array(items) = value else {
            bail!("a message that is no array: {value}")
        };
        Ok(Message { bytes, items })
    }

    /// Its kind.
    pub fn kind(&self) -> u64 {
        self.number(0)
    }

    /// An element as a number.
    pub fn number(&self, index: usize) -> u64 {
        self.items.get(index).and_then(Value::as_u64).unwrap_or(u64::MAX)
    }

    /// An element as text.
    pub fn text(&self, index: usize) -> &str {
        self.items.get(index).and_then(Value::as_str).unwrap_or_default()
    }
}

/// What a call came to.
#[derive(Debug)]
pub enum Outcome {
    /// The final result's arguments.
    Done(Vec<Value>),
    /// The error's URI and arguments.
    Failed(String, Vec<Value>),
}

impl Outcome {
    /// The arguments, or an error.
    pub fn done(self) -> Result<Vec<Value>> {
        match self {
            Outcome::Done(arguments) => Ok(arguments),
            Outcome::Failed(uri, arguments) => bail!("{uri}: {}", Value::Array(arguments)),
        }
    }

    /// The error's URI, or an error because there was none.
    pub fn failed(self) -> Result<String> {
        match self {
            Outcome::Failed(uri, _) => Ok(uri),
            Outcome::Done(arguments) => bail!("it was answered {}", Value::Array(arguments)),
        }
    }
}

/// A session.
pub struct Session {
    /// The connection.
    pub stream: Stream,
    next: u64,
}

impl Session {
    /// Connects, shakes hands and joins a realm. `credentials` are authid and ticket.
    pub fn join(
        address: &Address,
        realm: &str,
        method: &str,
        credentials: Option<(&str, &str)>,
    ) -> Result<Session> {
        Session::join_within(address, realm, method, credentials, ANSWER_LIMIT)
    }

    /// The same, where no answer may take longer, then and later.
    pub fn join_within(
        address: &Address,
        realm: &str,
        method: &str,
        credentials: Option<(&str, &str)>,
        limit: Duration,
    ) -> Result<Session> {
        let mut stream = Stream::connect(address)?;
        stream.read_limit(limit)?;
        stream.handshake()?;
        let features = map(FEATURES
            .iter()
            .map(|&feature| (feature, Value::Boolean(true)))
            .collect());
        let role = map(vec![("features", features)]);
        let mut details = vec![
            ("roles", map(vec![("caller", role.clone()), ("callee", role)])),
            ("authmethods", Value::Array(vec![method.into()])),
        ];
        if let Some((authid, _)) = credentials {
            details.push(("authid", authid.into()));
        }
        let mut session = Session { stream, next: 0 };
        session.send(&Value::Array(vec![1.into(), realm.into(), map(details)]))?;
        loop {
            let message = session.receive()?;
            match message.kind() {
                2 => return Ok(session),
                3 => bail!("ABORT {}", message.text(2)),
                4 => {
                    let ticket = credentials
                        .map(|(_, ticket)| ticket)
                        .context("a challenge without credentials")?;
                    session.send(&Value::Array(vec![5.into(), ticket.into(), map(vec![])]))?;
                }
                kind => bail!("HELLO was answered by a message of kind {kind}"),
            }
        }
    }

    /// A request number of this session.
    pub fn request(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Sends one message.
    pub fn send(&mut self, message: &Value) -> Result<()> {
        self.stream.send(&pack(message))
    }

    /// Receives one message.
    pub fn receive(&mut self) -> Result<Message> {
        let mut bytes = Vec::new();
        self.stream.receive(&mut bytes)?;
        Message::parse(bytes)
    }

    /// Registers a procedure; gives the registration, or the error's URI.
    pub fn register(&mut self, procedure: &str) -> Result<std::result::Result<u64, String>> {
        let request = self.request();
        self.send(&Value::Array(vec![
            64.into(),
            request.into(),
            map(vec![]),
            procedure.into(),
        ]))?;
        let answer = self.receive()?;
        match answer.kind() {
            65 => Ok(Ok(answer.number(2))),
            8 => Ok(Err(answer.text(4).to_owned())),
            kind => bail!("REGISTER was answered by a message of kind {kind}"),
        }
    }

    /// Sends a call without waiting for it; gives its request number.
    pub fn begin(
        &mut self,
        procedure: &str,
        arguments: Vec<Value>,
        keywords: Vec<(&str, Value)>,
    ) -> Result<u64> {
        let request = self.request();
        let message = vec![
            48.into(),
            request.into(),
            map(vec![]),
            procedure.into(),
            Value::Array(arguments),
            map(keywords),
        ];
        self.send(&Value::Array(message))?;
        Ok(request)
    }

    /// Waits for what a call comes to; progressive results are dropped.
    pub fn outcome(&mut self, request: u64) -> Result<Outcome> {
        loop {
            let message = self.receive()?;
            let arguments = |index: usize| match message.items.get(index) {
                Some(Value::Array(items)) => items.clone(),
                _ => Vec::new(),
            };
            match message.kind() {
                50 if message.number(1) == request => {
                    let progress = message.items.get(2).is_some_and(is_progress);
                    if !progress {
                        return Ok(Outcome::Done(arguments(3)));
                    }
                }
                8 if message.number(2) == request => {
                    return Ok(Outcome::Failed(message.text(4).to_owned(), arguments(5)));
                }
                3 | 6 => bail!("the session was ended: {}", message.text(2)),
                _ => {}
            }
        }
    }

    /// Calls and waits.
    pub fn call(
        &mut self,
        procedure: &str,
        arguments: Vec<Value>,
        keywords: Vec<(&str, Value)>,
    ) -> Result<Outcome> {
        let request = self.begin(procedure, arguments, keywords)?;
        self.outcome(request)
    }
}

/// Whether options or details say `progress`.
pub fn is_progress(details: &Value) -> bool {
    details.as_map().is_some_and(|entries| {
        entries
            .iter()
            .any(|(key, value)| key.as_str() == Some("progress") && value.as_bool() == Some(true))
    })
}
