//! The gateway over real sockets, before procedures that a test plays: HTTP on one side, WAMP on the other.

mod jobs;
mod pipe;
mod refusals;
mod silence;
mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pipes_agent::gateway::{self, Endpoints, Parts};
use pipes_agent::lifecycle::Lifecycle;
use pipes_agent::workflow::daemon::known::{All, Workflows};
use pipes_agent::workflow::daemon::record::{Definition, Options, Stage, Wish, Workflow};
use pipes_agent::workflow::runs::view::{Run, RunStage};
use pipes_protocol::run::Part;
use pipes_router::{OwnSession, Role, Router, RouterConfig};
use pipes_wamp::client::{Connection, Reader, Session, Writer};
use pipes_wamp::message::Message;
use pipes_wamp::payload::{self, PayloadBuf};
use pipes_wamp::streaming::Callee;
use rmpv::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// How long anything may take that is not itself about time.
const LIMIT: Duration = Duration::from_secs(10);

/// A gateway that serves.
struct Served {
    /// The common port.
    address: SocketAddr,
    known: watch::Sender<All>,
    endpoints: Endpoints,
    router: Router,
    lifecycle: Lifecycle,
    thread: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
}

/// A workflow as `pipes run -d` makes it.
fn workflow(name: &str) -> Workflow {
    let stage = |service: &str| Stage {
        service: service.into(),
        digest: format!("sha256:{}", "ab".repeat(32)),
        args: vec![],
    };
    Workflow {
        name: name.into(),
        wish: Wish::Running,
        port: None,
        bind: None,
        revision: 1,
        definition: Definition {
            revision: 1,
            line: "cat | sort".into(),
            stages: vec![stage("cat"), stage("sort")],
            options: Options::default(),
        },
        former: vec![],
        token_sha256: None,
        tls: None,
        grace: None,
        write: String::new(),
        created: "2026-11-24T20:15:00.123Z".into(),
    }
}

fn all(workflows: Vec<Workflow>) -> All {
    let named = workflows
        .into_iter()
        .map(|workflow| (workflow.name.clone(), Arc::new(workflow)));
    BTreeMap::from_iter(named)
}

impl Served {
    /// Serves these.
    async fn start(workflows: Vec<Workflow>) -> Served {
        Served::start_in(tempfile::tempdir().unwrap(), workflows).await
    }

    /// The same, with the cluster's authority in this folder.
    async fn start_in(folder: tempfile::TempDir, workflows: Vec<Workflow>) -> Served {
        let (router, thread) = Router::start(RouterConfig {
            node: 1,
            listeners: vec![],
            agent_uid: 0,
        })
        .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (known, workflows) = watch::channel(all(workflows));
        let (lifecycle, endpoints) = (Lifecycle::new(), Endpoints::default());
        gateway::start(Parts {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listener,
            authority: gateway::Authority {
                folder: folder.path().to_owned(),
                cluster_id: "01j".into(),
            },
            spool: folder.path().join("spool"),
            workflows: Workflows::of(workflows),
            unready: Arc::new(|workflow| {
                (workflow.name == "unready").then(|| "stage 1 (cat) has no replica".into())
            }),
            endpoints: endpoints.clone(),
            router: router.clone(),
            lifecycle: lifecycle.clone(),
        })
        .unwrap();
        Served {
            address,
            known,
            endpoints,
            router,
            lifecycle,
            thread: Some(thread),
            folder,
        }
    }

    /// Runs that are called from now on.
    fn runs(&self) -> Runs {
        Runs {
            sessions: self.router.serve_calls("pipes", "pipes.run.start", 16),
        }
    }

    /// Has a procedure answered, each call by its keyword arguments.
    async fn answer(&self, uri: &str, answer: impl Fn(&[(String, Value)]) -> Answered + Send + 'static) {
        let own = self.router.attach("pipes", Role::Agent).unwrap();
        let session = Session::start(Connection::welcomed(own.stream));
        let mut registration = session.register(uri).await.unwrap();
        tokio::spawn(async move {
            while let Some(mut invocation) = registration.next().await {
                let kwargs = invocation.payload.as_payload().kwargs().unwrap();
                let _ = match answer(&kwargs) {
                    Answered::Value(value) => {
                        invocation.answer(PayloadBuf::of_values(vec![value], None)).await
                    }
                    Answered::Bytes(parts, value) => {
                        for part in parts {
                            let part = Part::Stdout(&part).encode();
                            if invocation.answer_part(part).await.is_err() {
                                return;
                            }
                        }
                        invocation.answer(PayloadBuf::of_values(vec![value], None)).await
                    }
                    Answered::Error(uri, said) => {
                        invocation
                            .fail(uri, PayloadBuf::of_values(vec![said.into()], None))
                            .await
                    }
                };
            }
            drop(session);
        });
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends octets, and reads until the connection ends.
    async fn exchange(&self, octets: impl AsRef<[u8]>) -> Response {
        let mut stream = self.connect().await;
        stream.write_all(octets.as_ref()).await.unwrap();
        read_all(&mut stream).await
    }

    /// Sends a request whose connection ends after it; `head` from the method to the last header, lines apart by `\n`.
    async fn ask(&self, head: &str, body: &str) -> Response {
        self.exchange(request(head, body)).await
    }

    async fn stop(mut self) {
        assert!(self.lifecycle.stop(LIMIT).await, "every task ends");
        self.router.shutdown();
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(move || thread.join().unwrap())
            .await
            .unwrap();
    }
}

/// A whole request.
fn request(head: &str, body: &str) -> String {
    let mut lines = head.lines();
    let first = lines.next().unwrap();
    let mut text = format!("{first} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
    for line in lines {
        text += &format!("{}\r\n", line.trim());
    }
    if !body.is_empty() {
        text += &format!("content-length: {}\r\n", body.len());
    }
    text + "\r\n" + body
}

/// What an answered call comes to.
enum Answered {
    Value(Value),
    Bytes(Vec<Vec<u8>>, Value),
    Error(&'static str, &'static str),
}

fn map(pairs: Vec<(&str, Value)>) -> Value {
    Value::Map(
        pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

fn keyword<'a>(kwargs: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    kwargs.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// An answer as it came.
#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    /// As it lies on the wire.
    body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut pairs = lines.filter_map(|line| line.split_once(": "));
        pairs
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A chunked body: its bytes, and what stands behind the last chunk; `None` there: it was broken off.
    fn chunks(&self) -> (Vec<u8>, Option<String>) {
        let (mut bytes, mut rest) = (Vec::new(), &self.body[..]);
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            rest = &rest[end + 2..];
            if size == 0 {
                return (bytes, Some(String::from_utf8_lossy(rest).trim().to_owned()));
            }
            if rest.len() < size + 2 {
                break;
            }
            bytes.extend_from_slice(&rest[..size]);
            rest = &rest[size + 2..];
        }
        (bytes, None)
    }
}

/// Reads until the connection ends, in order or not.
async fn read_all(stream: &mut TcpStream) -> Response {
    let mut octets = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = timeout(Duration::from_secs(60), stream.read(&mut buffer))
        .await
        .expect("an end")
    {
        octets.extend_from_slice(&buffer[..count]);
    }
    parse(octets)
}

fn parse(octets: Vec<u8>) -> Response {
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else {
        return Response {
            status: 0,
            head: String::from_utf8_lossy(&octets).into_owned(),
            body: vec![],
        };
    };
    let head = String::from_utf8_lossy(&octets[..end]).into_owned();
    Response {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: octets[end + 4..].to_vec(),
    }
}

/// Runs as they are called.
struct Runs {
    sessions: mpsc::Receiver<OwnSession>,
}

impl Runs {
    async fn next(&mut self) -> FakeRun {
        let own = timeout(LIMIT, self.sessions.recv())
            .await
            .expect("a call")
            .unwrap();
        let (mut reader, writer) = Connection::welcomed(own.stream).split();
        let message = timeout(LIMIT, reader.next())
            .await
            .expect("an invocation")
            .unwrap();
        let Some(Message::Invocation { request, payload, .. }) = message else {
            panic!("{message:?} is no invocation");
        };
        let request = (request, payload.kwargs().unwrap());
        FakeRun {
            reader,
            writer,
            callee: Callee { request: request.0 },
            kwargs: request.1,
        }
    }
}

/// A coordinator's side of a run, played.
struct FakeRun {
    reader: Reader,
    writer: Writer,
    callee: Callee,
    kwargs: Vec<(String, Value)>,
}

/// What the gateway says to a run.
#[derive(Debug, PartialEq)]
enum Said {
    Input(Vec<u8>),
    Credit(u64),
    Eof,
    Gone,
}

impl FakeRun {
    async fn part(&mut self, part: Part<'_>) {
        self.callee.part(&mut self.writer, part.encode().as_payload());
        // Where the gateway has gone, the test looks at that.
        let _ = self.writer.flush().await;
    }

    async fn next(&mut self) -> Said {
        let message = timeout(Duration::from_secs(60), self.reader.next())
            .await
            .expect("something");
        match message {
            Ok(Some(Message::Invocation { payload, .. })) => {
                let kwargs = payload.kwargs().unwrap();
                if let Some(credit) = keyword(&kwargs, "credit") {
                    return Said::Credit(credit.as_u64().unwrap());
                }
                if keyword(&kwargs, "eof").is_some() {
                    return Said::Eof;
                }
                Said::Input(payload::bytes_arg(payload).unwrap().to_vec())
            }
            Ok(Some(Message::Interrupt { .. })) | Ok(None) | Err(_) => Said::Gone,
            Ok(Some(other)) => panic!("{other:?}"),
        }
    }

    async fn finish(&mut self, exit: i32, message: Option<&str>) {
        let stage = |number, service: &str, status| RunStage {
            stage: number,
            service: service.into(),
            status: Some(status),
            ..RunStage::default()
        };
        let run = Run {
            id: "r1".into(),
            exit: Some(exit),
            status: Some(exit),
            message: message.map(str::to_owned),
            stages: vec![stage(1, "cat", 0), stage(2, "sort", exit)],
            ..Run::default()
        };
        let payload = PayloadBuf::of(&run).unwrap();
        self.callee.result(&mut self.writer, payload.as_payload());
        let _ = self.writer.flush().await;
    }

    async fn refuse(&mut self, uri: &str, said: &str) {
        self.callee.fail(&mut self.writer, uri, said);
        self.writer.flush().await.unwrap();
    }
}
