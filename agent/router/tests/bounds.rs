//! What users' sessions may do to others: take no more than their room and their time.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pipes_router::Role;
use pipes_wamp::client::{Reader, Writer};
use pipes_wamp::message::{CallOptions, EMPTY_MAP, Message, Payload, RegisterOptions, kind};
use pipes_wamp::transport::rawsocket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::nodes::{RouterNode, within};

/// A message in its frame.
fn framed(message: &Message<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    rawsocket::frame(&mut frame, |out| message.encode(out));
    frame
}

/// Octets and HELLO of realm `default`, written as they are: HELLO has a role and nothing else.
fn joining() -> Vec<u8> {
    let mut octets = rawsocket::client_handshake().to_vec();
    let hello = b"\x93\x01\xa7default\x81\xa5roles\x81\xa6caller\x80";
    octets.extend(rawsocket::frame_head(rawsocket::FrameKind::Message, hello.len()));
    octets.extend_from_slice(hello);
    octets
}

/// Connections that send valid messages of eight octets as fast as they are taken, and read the answers.
struct Crowd {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn start(node: &RouterNode, count: usize) -> Crowd {
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = (0..2).map(|_| {
            let connect = |_| {
                let mut stream = TcpStream::connect(node.tcp).unwrap();
                stream.write_all(&joining()).unwrap();
                stream.set_nonblocking(true).unwrap();
                stream
            };
            let streams: Vec<_> = (0..count / 2).map(connect).collect();
            let is_over = is_over.clone();
            std::thread::spawn(move || chat(streams, &is_over))
        });
        Crowd {
            threads: threads.collect(),
            is_over,
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn chat(mut streams: Vec<TcpStream>, is_over: &AtomicBool) {
    // It is refused: there is no such registration.
    let message = framed(&Message::Unregister {
        request: 1,
        registration: 1 << 20,
    });
    let messages = message.repeat((64 << 10) / message.len());
    let mut begun = vec![0; streams.len()];
    let mut answers = vec![0; 256 << 10];
    while !is_over.load(Ordering::Relaxed) {
        for (stream, begun) in streams.iter_mut().zip(&mut begun) {
            match stream.write(&messages[*begun..]) {
                Ok(written) => *begun = (*begun + written) % message.len(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            match stream.read(&mut answers) {
                Ok(read) => assert!(read > 0, "a connection has ended"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        // What was written is enough for a while: the processors are for the router.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The time that routers' threads of this process have run.
fn routers_ran() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let ran = tasks.filter_map(|task| {
        // A thread may end meanwhile.
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        let ran = std::fs::read_to_string(task.join("schedstat")).ok()?;
        let ran = ran.split(' ').next()?.parse().ok()?;
        (name == "router\n").then_some(Duration::from_nanos(ran))
    });
    ran.sum()
}

/// Measured is the router's own time: a machine that has none for it says nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_users_sessions_holds_no_operator_up() {
    let node = RouterNode::start(1);
    let (agent, operator) = (node.agent("pipes"), node.agent("pipes"));
    super::links::answers_bytes(&agent, "pipes.test", 10).await;
    let _crowd = Crowd::start(&node, 100);
    // It is under way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut ran = Vec::new();
    for _ in 0..5 {
        let before = routers_ran();
        within(operator.call_once("pipes.test", vec![], None))
            .await
            .unwrap();
        ran.push(routers_ran() - before);
    }
    ran.sort_unstable();
    assert!(ran[2] < Duration::from_millis(150), "{ran:?}");
}

/// Writes frames again and again until no more is taken; gives how many octets were.
fn flood(stream: &mut UnixStream, frames: &[u8]) -> usize {
    let frames_in_block = frames.repeat((64 << 10) / frames.len());
    stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut taken = 0;
    while taken < FLOOD {
        match stream.write(&frames_in_block[taken % frames.len()..]) {
            Ok(written) => taken += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    taken
}

/// A flood ends there: much more than the kernel's buffers and the router's hold.
const FLOOD: usize = 32 << 20;
/// What the kernel's buffers and the router's hold at most.
const HELD: usize = 2 << 20;

/// Reads so many octets.
fn read_all(stream: &mut UnixStream, octets: usize) {
    stream.set_read_timeout(Some(super::nodes::LIMIT)).unwrap();
    let read = std::io::copy(&mut stream.take(octets as u64), &mut std::io::sink()).unwrap();
    assert_eq!(read, octets as u64);
}

#[tokio::test]
async fn who_does_not_read_answers_to_its_pings_is_not_read() {
    let node = RouterNode::start(1);
    let mut stream = UnixStream::connect(&node.operators).unwrap();
    stream.write_all(&rawsocket::client_handshake()).unwrap();
    read_all(&mut stream, rawsocket::HEAD);
    let mut ping = rawsocket::frame_head(rawsocket::FrameKind::Ping, 100).to_vec();
    ping.extend_from_slice(&[7; 100]);
    let taken = flood(&mut stream, &ping);
    assert!(taken < HELD, "{taken} octets were taken");
    // It reads: all of them are answered.
    read_all(&mut stream, taken - taken % ping.len());
}

#[tokio::test]
async fn who_does_not_read_refusals_is_not_read() {
    let node = RouterNode::start(1);
    let mut stream = UnixStream::connect(&node.operators).unwrap();
    stream.write_all(&joining()).unwrap();
    let unregister = framed(&Message::Unregister {
        request: 1,
        registration: 1 << 20,
    });
    let taken = flood(&mut stream, &unregister);
    assert!(taken < HELD, "{taken} octets were taken");
    let refused = framed(&Message::Error {
        kind: kind::UNREGISTER,
        request: 1,
        details: EMPTY_MAP,
        error: "wamp.error.no_such_registration",
        payload: Payload::EMPTY,
    });
    read_all(&mut stream, taken / unregister.len() * refused.len());
}

/// Arguments: one binary of so many bytes.
fn bytes_arg(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    pipes_wamp::payload::write_bytes_arg(&mut bytes, &vec![1; length]);
    bytes
}

fn call<'a>(request: u64, procedure: &'a str, bytes: &'a [u8], progress: bool) -> Message<'a> {
    let options = CallOptions {
        progress,
        ..CallOptions::default()
    };
    let payload = Payload { parts: 1, bytes };
    Message::Call {
        request,
        options,
        procedure,
        payload,
    }
}

/// A session of users' realms that has registered this, and reads nothing more.
async fn reads_nothing(node: &RouterNode, procedure: &str) -> (Reader, Writer) {
    let (mut reader, mut writer) = node.raw("default").split();
    writer.queue(&Message::Register {
        request: 1,
        options: RegisterOptions::default(),
        procedure,
    });
    within(writer.flush()).await.unwrap();
    let answer = within(reader.next()).await.unwrap();
    assert!(matches!(answer, Some(Message::Registered { .. })), "{answer:?}");
    (reader, writer)
}

async fn users_held(node: &RouterNode) -> usize {
    within(node.router.counts()).await.unwrap().users_held
}

/// What is held for one session, and a little for others.
const FOR_ONE: usize = 9 << 20;

#[tokio::test]
async fn what_callers_that_left_have_sent_to_one_who_does_not_read_has_a_bound() {
    let node = RouterNode::start(1);
    let _stuck = reads_nothing(&node, "com.stuck").await;
    let bytes = bytes_arg(200 << 10);
    for _ in 0..80 {
        let (_reader, mut writer) = node.raw("default").split();
        writer.queue(&call(1, "com.stuck", &bytes, false));
        within(writer.flush()).await.unwrap();
    }
    super::storm::until(&node, |counts| counts.sessions == 1).await;
    let held = users_held(&node).await;
    assert!(((8 << 20)..FOR_ONE).contains(&held), "{held}");
    // Others do not notice.
    let (callee, caller) = (node.anybody().await, node.anybody().await);
    super::links::answers_bytes(&callee, "com.other", 100 << 10).await;
    within(caller.call_once("com.other", vec![], None)).await.unwrap();
    let refused = super::one_node::failure(&caller, "com.stuck").await;
    assert_eq!(refused, "wamp.error.unavailable");
}

/// Begins calls with a megabyte each in 17 messages, none of which is out of window; gives how many were begun.
async fn begin_calls(writer: &mut Writer, count: u64) -> u64 {
    let bytes = bytes_arg(64 << 10);
    for request in 1..=count {
        writer.queue(&call(request, "com.stuck", &[0x90], true));
        for _ in 0..16 {
            writer.queue(&call(request, "com.stuck", &bytes, true));
        }
        let flushed = timeout(Duration::from_millis(500), writer.flush()).await;
        if flushed.is_err() {
            return request;
        }
    }
    count
}

#[tokio::test]
async fn calls_to_one_who_does_not_read_are_bounded_together() {
    let node = RouterNode::start(1);
    let (stuck, _writer) = reads_nothing(&node, "com.stuck").await;
    let (_reader, mut writer) = node.raw("default").split();
    let begun = begin_calls(&mut writer, 30).await;
    let held = users_held(&node).await;
    assert!(held < FOR_ONE && begun < 9, "{held} held of {begun} calls");
    // It reads: all of them go on.
    let reading = read_on(stuck);
    within(writer.flush()).await.unwrap();
    super::storm::until(&node, |counts| counts.held == 0).await;
    assert!(!reading.is_finished());
}

/// Reads invocations.
fn read_on(mut reader: Reader) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok(Some(next)) = reader.next().await {
            assert!(matches!(next, Message::Invocation { .. }), "{next:?}");
        }
    })
}

#[tokio::test]
async fn calls_to_one_at_another_node_who_does_not_read_are_bounded_together() {
    let (one, two) = RouterNode::pair().await;
    let (stuck, _writer) = reads_nothing(&two, "com.stuck").await;
    let (_reader, mut writer) = one.raw("default").split();
    let begun = begin_calls(&mut writer, 30).await;
    let (here, there) = (users_held(&one).await, users_held(&two).await);
    let held = here.max(there);
    assert!(
        held < FOR_ONE && begun < 12,
        "{here} and {there} held of {begun} calls"
    );
    let reading = read_on(stuck);
    within(writer.flush()).await.unwrap();
    super::storm::until(&one, |counts| counts.held == 0).await;
    assert!(!reading.is_finished());
}

#[tokio::test]
async fn streams_that_have_sent_a_little_each_hold_nothing_when_it_was_taken() {
    let (one, two) = RouterNode::pair().await;
    let (takes, _writer) = reads_nothing(&two, "com.stuck").await;
    let reading = read_on(takes);
    let (_reader, mut writer) = one.raw("default").split();
    // Too little of each for a window frame, and more in all than a session may hold.
    let bytes = bytes_arg(60 << 10);
    for request in 1..=100 {
        for _ in 0..3 {
            writer.queue(&call(request, "com.stuck", &bytes, true));
        }
        within(writer.flush()).await.unwrap();
    }
    super::storm::until(&one, |counts| counts.held == 0).await;
    assert!(!reading.is_finished());
}

#[tokio::test]
async fn answers_that_nobody_reads_become_errors() {
    let node = RouterNode::start(1);
    let callee = node.anybody().await;
    super::links::answers_bytes(&callee, "com.big", 1 << 20).await;
    let (mut reader, mut writer) = node.raw("default").split();
    for request in 1..=30 {
        writer.queue(&call(request, "com.big", &[0x90], false));
    }
    within(writer.flush()).await.unwrap();
    super::storm::until(&node, |counts| counts.calls == 0).await;
    let held = users_held(&node).await;
    let mut refused = 0;
    for _ in 0..30 {
        match within(reader.next()).await.unwrap() {
            Some(Message::Result { .. }) => {}
            Some(Message::Error { error, .. }) => {
                assert_eq!(error, "wamp.error.unavailable");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        held < FOR_ONE + (1 << 20) && refused > 15,
        "{held} held, {refused} refused"
    );
}

#[tokio::test]
async fn half_messages_of_many_sessions_have_a_bound() {
    super::one_node::raise_descriptors();
    let node = RouterNode::start(1);
    let whole = framed(&call(1, "com.nobody", &bytes_arg(60 << 10), false));
    let mut sessions = Vec::new();
    for _ in 0..800 {
        let mut stream = node.router.attach("default", Role::Agent).unwrap().stream;
        within(stream.write_all(&whole[..whole.len() - 1])).await.unwrap();
        sessions.push(stream);
    }
    super::storm::until(&node, |counts| counts.users_held > 31 << 20).await;
    let held = users_held(&node).await;
    assert!(held < 36 << 20, "{held}");
    // Who sends little goes on, and so does who sends what he began.
    let (callee, caller) = (node.anybody().await, node.anybody().await);
    super::links::answers_bytes(&callee, "com.other", 100).await;
    within(caller.call_once("com.other", vec![], None)).await.unwrap();
    for stream in &mut sessions {
        within(stream.write_all(&whole[whole.len() - 1..])).await.unwrap();
        within(stream.read_u8()).await.unwrap();
    }
    let held = users_held(&node).await;
    assert!(held < 1 << 20, "{held}");
}
