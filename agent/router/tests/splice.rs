//! Bytes that go past the session between two calls: the windows that they take, and what is left of them.

use std::time::Duration;

use pipes_router::{Onto, Own, OwnSession, Role};
use pipes_wamp::client::{Connection, Reader, Writer};
use pipes_wamp::message::{CallOptions, Message, Payload};
use pipes_wamp::payload::{PayloadBuf, bytes_arg, tagged_bytes};

use super::nodes::{RouterNode, link, within};
use super::storm::{until, until_empty};

/// More than a window of a call (2 MiB) and all sockets on the way hold.
const MANY: usize = 400;
/// A chunk that crosses a link in pieces.
const CHUNK: usize = 100_000;

const BOTH: CallOptions<'static> = CallOptions {
    progress: true,
    receive_progress: true,
    timeout_ms: 0,
    disclose_me: false,
    grant: None,
};

/// One session, its messages as they are.
struct Raw {
    id: u64,
    reader: Reader,
    writer: Writer,
}

impl Raw {
    fn new(own: OwnSession) -> Raw {
        let (reader, writer) = Connection::welcomed(own.stream).split();
        Raw {
            id: own.id,
            reader,
            writer,
        }
    }

    fn at(node: &RouterNode) -> Raw {
        Raw::new(node.router.attach("pipes", Role::Agent).unwrap())
    }

    fn own(&self, request: u64) -> Own {
        Own {
            session: self.id,
            request,
        }
    }

    async fn register(&mut self, procedure: &str) {
        self.writer.queue(&Message::Register {
            request: 1,
            options: Default::default(),
            procedure,
        });
        within(self.writer.flush()).await.unwrap();
        let answer = within(self.reader.next()).await.unwrap();
        assert!(matches!(answer, Some(Message::Registered { .. })), "{answer:?}");
    }

    async fn call(&mut self, request: u64, procedure: &str, bytes: &[u8], progress: bool) {
        let payload = PayloadBuf::of_bytes(bytes);
        self.writer.queue(&Message::Call {
            request,
            options: CallOptions { progress, ..BOTH },
            procedure,
            payload: payload.as_payload(),
        });
        within(self.writer.flush()).await.unwrap();
    }

    /// A chunk of keyword arguments alone, which is the session between's.
    async fn say(&mut self, request: u64, procedure: &str) {
        let payload = PayloadBuf::of_kwargs(vec![("credit", 1.into())]);
        self.writer.queue(&Message::Call {
            request,
            options: BOTH,
            procedure,
            payload: payload.as_payload(),
        });
        within(self.writer.flush()).await.unwrap();
    }

    async fn answer(&mut self, request: u64, progress: bool) {
        self.writer.queue(&Message::Yield {
            request,
            progress,
            payload: Payload::EMPTY,
        });
        within(self.writer.flush()).await.unwrap();
    }

    /// The bytes of the next invocation, and whether more follow.
    async fn invocation(&mut self) -> (u64, usize, bool) {
        match within(self.reader.next()).await.unwrap() {
            Some(Message::Invocation {
                request,
                details,
                payload,
                ..
            }) => (request, bytes_arg(payload).unwrap().len(), details.progress),
            other => panic!("{other:?}"),
        }
    }
}

/// A caller at node one, the session between at node one, and one who takes at node `two`; their calls are open and the
/// first leads to the second.
async fn led(one: &RouterNode, two: &RouterNode) -> (Raw, Raw, Raw) {
    let (mut caller, mut between, mut taker) = (Raw::at(one), Raw::at(one), Raw::at(two));
    between.register("com.run").await;
    taker.register("com.take").await;
    caller.call(1, "com.run", b"", true).await;
    assert_eq!(between.invocation().await, (1, 0, true));
    between.call(2, "com.take", b"", true).await;
    assert_eq!(taker.invocation().await, (1, 0, true));
    one.router.splice(between.own(1), Onto::Call(between.own(2)));
    // The router has done it when it has answered something that was asked later.
    within(one.router.counts()).await.unwrap();
    (caller, between, taker)
}

/// Sends chunks until all are sent; never waits for an answer.
async fn pour(mut caller: Raw) -> Raw {
    let chunk = vec![7; CHUNK];
    for _ in 0..MANY {
        caller.call(1, "com.run", &chunk, true).await;
    }
    caller
}

async fn takes_all_and_leaves_nothing(one: &RouterNode, two: &RouterNode) {
    let (caller, mut between, mut taker) = led(one, two).await;
    let pouring = tokio::spawn(pour(caller));
    // The window is used up before anything is taken, and the caller waits.
    let is_blocked = async {
        while within(one.router.counts()).await.unwrap().blocked == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(is_blocked).await;
    assert!(within(one.router.counts()).await.unwrap().held < 3 << 20);
    for _ in 0..MANY {
        assert_eq!(taker.invocation().await, (1, CHUNK, true));
    }
    let mut caller = within(pouring).await.unwrap();
    // The session between ends both, over the same windows.
    between.call(2, "com.take", b"end", false).await;
    assert_eq!(taker.invocation().await, (1, 3, false));
    taker.answer(1, false).await;
    between.answer(1, false).await;
    let ended = within(caller.reader.next()).await.unwrap();
    assert!(
        matches!(
            ended,
            Some(Message::Result {
                request: 1,
                progress: false,
                ..
            })
        ),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_window_bounds_bytes_that_go_past_a_session() {
    let node = RouterNode::start(1);
    takes_all_and_leaves_nothing(&node, &node).await;
    until_empty(&node).await;
    let (one, two) = RouterNode::pair().await;
    takes_all_and_leaves_nothing(&one, &two).await;
    until_empty(&one).await;
    until_empty(&two).await;
}

#[tokio::test]
async fn keywords_beside_bytes_stay_and_the_bytes_keep_their_order() {
    let node = RouterNode::start(1);
    let (mut caller, mut between, mut taker) = led(&node, &node).await;
    let mut both = PayloadBuf::of_bytes(b"second");
    both.bytes.extend(
        PayloadBuf::of_kwargs(vec![("credit", 7.into())])
            .bytes
            .split_off(1),
    );
    both.parts = 2;
    for payload in [
        PayloadBuf::of_bytes(b"first"),
        both,
        PayloadBuf::of_bytes(b"third!!"),
    ] {
        caller.writer.queue(&Message::Call {
            request: 1,
            options: BOTH,
            procedure: "com.run",
            payload: payload.as_payload(),
        });
    }
    within(caller.writer.flush()).await.unwrap();
    for length in [5, 6, 7] {
        assert_eq!(taker.invocation().await, (1, length, true));
    }
    let Some(Message::Invocation { payload, .. }) = within(between.reader.next()).await.unwrap() else {
        panic!("no keywords")
    };
    assert_eq!(payload.args().unwrap(), []);
    assert_eq!(payload.kwargs().unwrap(), [("credit".to_owned(), 7.into())]);
}

#[tokio::test]
async fn nothing_is_left_in_whatever_order_they_leave() {
    // The caller, the session between, the taker, the link.
    for order in [
        "cbt", "ctb", "bct", "btc", "tcb", "tbc", "lcbt", "clbt", "tlcb", "blct",
    ] {
        let (one, two) = (RouterNode::start(1), RouterNode::start(2));
        let (cut, _other) = link(&one, 1, &two, 2);
        one.linked(2, true).await;
        two.linked(1, true).await;
        let (caller, between, taker) = led(&one, &two).await;
        let mut all = [Some(caller), Some(between), Some(taker)];
        let chunk = vec![7; CHUNK];
        for leaver in order.chars() {
            // Bytes and keywords are on their way whenever somebody leaves.
            if let Some(caller) = &mut all[0] {
                for bytes in [&chunk[..], b""] {
                    caller.call(1, "com.run", bytes, true).await;
                }
                caller.say(1, "com.run").await;
            }
            let place = match leaver {
                'c' => 0,
                'b' => 1,
                't' => 2,
                _ => {
                    cut.shutdown(std::net::Shutdown::Both).unwrap();
                    one.linked(2, false).await;
                    continue;
                }
            };
            let node = if place == 2 { &two } else { &one };
            let sessions = within(node.router.counts()).await.unwrap().sessions;
            all[place] = None;
            until(node, |counts| counts.sessions < sessions).await;
        }
        until_empty(&one).await;
        until_empty(&two).await;
    }
}

#[tokio::test]
async fn what_the_first_caller_has_not_taken_no_longer_counts_against_the_second() {
    let (one, two) = RouterNode::pair().await;
    for (giver_at, procedure) in [(&one, "com.out.near"), (&two, "com.out.far")] {
        let (mut first, mut between) = (Raw::at(&one), Raw::at(&one));
        let mut giver = Raw::at(giver_at);
        between.register(procedure).await;
        first.call(1, procedure, b"", true).await;
        assert_eq!(between.invocation().await, (1, 0, true));
        giver.call(1, procedure, b"", true).await;
        assert_eq!(between.invocation().await, (2, 0, true));
        one.router.splice(between.own(2), Onto::Answer(between.own(1), 1));
        within(one.router.counts()).await.unwrap();
        let chunk = vec![9; CHUNK];
        // Less than a window, so that it is all sent though nobody takes it.
        for _ in 0..15 {
            giver.call(1, procedure, &chunk, true).await;
        }
        giver.call(1, procedure, b"", false).await;
        assert_eq!(between.invocation().await, (2, 0, false));
        between.answer(2, false).await;
        let ended = within(giver.reader.next()).await.unwrap();
        assert!(matches!(ended, Some(Message::Result { .. })), "{ended:?}");
        // The giver goes on with other things while the first caller has read nothing.
        for request in 2..40 {
            giver.call(request, "com.nobody", &chunk, false).await;
            let refused = within(giver.reader.next()).await.unwrap();
            assert!(matches!(refused, Some(Message::Error { .. })), "{refused:?}");
        }
        for _ in 0..15 {
            let Some(Message::Result { payload, .. }) = within(first.reader.next()).await.unwrap() else {
                panic!("no result");
            };
            assert_eq!(
                tagged_bytes(payload).map(|(tag, bytes)| (tag, bytes.len())),
                Some((1, CHUNK))
            );
        }
        between.answer(1, false).await;
        drop((first, between, giver));
    }
    until_empty(&one).await;
    until_empty(&two).await;
}
