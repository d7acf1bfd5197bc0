//! What users' sessions may do to others: take no more than their room and their time.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pipes_wamp::message::{Message, Payload};
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
