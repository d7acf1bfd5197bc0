//! What users' sessions may do to others: take no more than their room and their time.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pipes_wamp::message::{EMPTY_MAP, Message, Payload, kind};
use pipes_wamp::transport::rawsocket;

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
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_users_sessions_holds_no_operator_up() {
    let node = RouterNode::start(1);
    let (agent, operator) = (node.agent("pipes"), node.agent("pipes"));
    super::links::answers_bytes(&agent, "pipes.test", 10).await;
    let _crowd = Crowd::start(&node, 100);
    // It is under way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let begun = Instant::now();
        within(operator.call_once("pipes.test", vec![], None))
            .await
            .unwrap();
        longest = longest.max(begun.elapsed());
    }
    assert!(longest < Duration::from_millis(500), "{longest:?}");
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
