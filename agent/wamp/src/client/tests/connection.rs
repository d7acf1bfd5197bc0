//! Readers and writers of messages.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::error::Error;
use crate::message::EMPTY_MAP;
use crate::transport::rawsocket::MESSAGE_MAX;
use crate::transport::rawsocket::{FrameKind, frame_head};

/// A non-shortest integer, a NaN with payload bits, a key twice: what a router must not touch.
const ODD: &[u8] = &[
    0x92, 0xcf, 0, 0, 0, 0, 0, 0, 0, 5, 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0xbe, 0xef, 0x82, 0xa1, b'a', 1, 0xa1,
    b'a', 2,
];

fn frame(message: &Message<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    message.encode(&mut octets);
    [frame_head(FrameKind::Message, octets.len()).to_vec(), octets].concat()
}

fn yielded(payload: Payload<'_>) -> Message<'_> {
    Message::Yield {
        request: 7,
        progress: true,
        payload,
    }
}

/// Lets a future run as far as it comes by itself, and drops it: by time, to show that it does not end.
async fn unfinished<F: Future>(future: F) -> bool {
    tokio::time::timeout(Duration::from_millis(5), future)
        .await
        .is_err()
}

#[tokio::test]
async fn a_message_that_comes_octet_by_octet_is_whole_though_next_is_dropped_in_between() {
    let (ours, mut theirs) = pair();
    let (mut reader, _writer) = Connection::welcomed(ours).split();
    let odd = Payload { parts: 2, bytes: ODD };
    for octet in frame(&yielded(odd)) {
        assert!(unfinished(reader.next()).await, "not whole yet");
        theirs.write_all(&[octet]).await.unwrap();
    }
    assert_eq!(reader.next().await.unwrap(), Some(yielded(odd)));
}

#[tokio::test]
async fn a_payload_arrives_byte_for_byte() {
    let (ours, theirs) = pair();
    let (_, mut writer) = Connection::welcomed(ours).split();
    let mut peer = Peer::new(theirs);
    writer.queue(&yielded(Payload { parts: 2, bytes: ODD }));
    writer.flush().await.unwrap();
    peer.expect(|message| assert_eq!(message.payload().bytes, ODD))
        .await;
}

#[tokio::test]
async fn the_end_of_a_connection_is_no_end_of_a_message() {
    let message = frame(&Message::Goodbye {
        details: EMPTY_MAP,
        reason: "a.b",
    });
    for (sent, whole) in [(0, true), (1, false), (4, false), (message.len() - 1, false)] {
        let (ours, mut theirs) = pair();
        let (mut reader, _writer) = Connection::welcomed(ours).split();
        theirs.write_all(&message[..sent]).await.unwrap();
        drop(theirs);
        match reader.next().await {
            Ok(None) => assert!(whole, "{sent} octets"),
            Err(Error::Closed) => assert!(!whole, "{sent} octets"),
            other => panic!("{sent} octets: {other:?}"),
        };
    }
}

#[tokio::test]
async fn many_messages_of_all_lengths_arrive_in_order() {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(11);
    let lengths: Vec<usize> = (0..300)
        .map(|turn| match turn % 10 {
            0 => random.random_range(0..3_000_000),
            1..4 => random.random_range(0..300_000),
            _ => random.random_range(0..100),
        })
        .collect();
    let (ours, theirs) = pair();
    let sent = lengths.clone();
    let writing = tokio::spawn(async move {
        let (_reader, mut writer) = Connection::welcomed(theirs).split();
        for (turn, length) in sent.into_iter().enumerate() {
            let data = vec![turn as u8; length];
            writer.queue_bytes(&data, yielded);
            if turn % 3 == 0 {
                writer.flush().await.unwrap();
            }
        }
        writer.close().await.unwrap();
    });
    let (mut reader, _writer) = Connection::welcomed(ours).split();
    for (turn, length) in lengths.into_iter().enumerate() {
        let message = reader.next().await.unwrap().expect("all of them");
        let data = crate::payload::bytes_arg(message.payload()).expect("bytes");
        assert!(
            data.len() == length && data.iter().all(|octet| *octet == turn as u8),
            "message {turn}"
        );
    }
    assert_eq!(reader.next().await.unwrap(), None);
    writing.await.unwrap();
}

#[tokio::test]
async fn the_longest_message_passes_and_one_octet_more_does_not() {
    let head = {
        let mut octets = Vec::new();
        yielded(Payload::EMPTY).encode(&mut octets);
        crate::payload::write_bytes_arg_head(&mut octets, MESSAGE_MAX);
        octets.len()
    };
    let data = vec![1; MESSAGE_MAX - head];
    let (ours, theirs) = pair();
    let (_, mut writer) = Connection::welcomed(ours).split();
    let mut peer = Peer::new(theirs);
    writer.queue_bytes(&data, yielded);
    writer.queue_bytes(&[&data[..], &[1]].concat(), yielded);
    writer.queue(&yielded(Payload::EMPTY));
    let writing = tokio::spawn(async move { writer.flush().await });
    peer.expect(|message| assert!(message.payload().bytes.len() > data.len()))
        .await;
    assert!(matches!(writing.await.unwrap(), Err(Error::TooLarge { .. })));
    assert_eq!(peer.octets().await, None, "nothing after what was refused");
}

#[tokio::test]
async fn a_head_that_announces_too_much_or_nonsense_ends_the_connection() {
    for octets in [[1, 0xff, 0, 0], [3, 0, 0, 0], [0x80, 0, 0, 1]] {
        let (ours, mut theirs) = pair();
        let (mut reader, _writer) = Connection::welcomed(ours).split();
        theirs.write_all(&octets).await.unwrap();
        assert!(reader.next().await.is_err(), "{octets:?}");
    }
}

#[tokio::test]
async fn a_ping_is_answered_while_nobody_writes() {
    let (ours, mut theirs) = pair();
    let (mut reader, writer) = Connection::welcomed(ours).split();
    theirs
        .write_all(&[&frame_head(FrameKind::Ping, 3)[..], b"abc"].concat())
        .await
        .unwrap();
    assert!(unfinished(reader.next()).await);
    let mut answer = [0; 7];
    theirs.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [2, 0, 0, 3, b'a', b'b', b'c']);
    assert_eq!(writer.pending(), 0);
}

#[tokio::test]
async fn what_a_peer_sent_before_it_left_is_read_though_its_ping_has_no_answer() {
    let (ours, mut theirs) = pair();
    let goodbye = Message::Goodbye {
        details: EMPTY_MAP,
        reason: "a.b",
    };
    let ping = frame_head(FrameKind::Ping, 0);
    theirs
        .write_all(&[&ping[..], &frame(&goodbye), &ping, &frame(&goodbye)[..5]].concat())
        .await
        .unwrap();
    drop(theirs);
    let (mut reader, _writer) = Connection::welcomed(ours).split();
    assert_eq!(reader.next().await.unwrap(), Some(goodbye));
    assert!(matches!(reader.next().await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_pong_keeps_out_of_a_message_that_is_half_written() {
    let (ours, mut theirs) = pair();
    let (mut reader, mut writer) = Connection::welcomed(ours).split();
    let data = vec![5; 4 << 20];
    writer.queue_bytes(&data, yielded);
    assert!(unfinished(writer.flush()).await, "more than the socket holds");
    theirs.write_all(&frame_head(FrameKind::Ping, 0)).await.unwrap();
    assert!(unfinished(reader.next()).await);
    let writing = tokio::spawn(async move { writer.flush().await });
    let mut head = [0; 4];
    theirs.read_exact(&mut head).await.unwrap();
    let mut message = vec![0; u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize];
    theirs.read_exact(&mut message).await.unwrap();
    assert_eq!(
        crate::payload::bytes_arg(Message::parse(&message).unwrap().payload()),
        Some(&data[..])
    );
    theirs.read_exact(&mut head).await.unwrap();
    assert_eq!(head, frame_head(FrameKind::Pong, 0));
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_peer_that_asks_and_never_listens_is_not_read_for_ever() {
    let (ours, mut theirs) = pair();
    let (mut reader, writer) = Connection::welcomed(ours).split();
    let reading = tokio::spawn(async move { reader.next().await.map(|message| message.is_some()) });
    let ping = [&frame_head(FrameKind::Ping, 4096)[..], &[0; 4096]].concat();
    // The sockets' buffers and the bound on PONGs fill up, then writing stalls: by time, since it must not go on.
    let flood = async {
        for _ in 0..10_000 {
            theirs.write_all(&ping).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(1), flood).await.is_err());
    assert!(writer.pending() < 1 << 20, "{}", writer.pending());
    drop(theirs);
    assert!(reading.await.unwrap().is_err());
}

/// One side of a connection that carries bulk both ways and asks whether the other lives now and then.
async fn send_and_count(stream: UnixStream, seed: u64, total: usize) -> (usize, u64) {
    use rand::{Rng, SeedableRng};
    let (mut reader, mut writer) = Connection::welcomed(stream).split();
    let writing = tokio::spawn(async move {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let data: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let (mut sent, mut sum) = (0, 0_u64);
        while sent < total {
            let length = random.random_range(0..data.len()).min(total - sent);
            writer.queue_bytes(&data[..length], yielded);
            sum += data[..length].iter().map(|octet| u64::from(*octet)).sum::<u64>();
            sent += length;
            if random.random_ratio(1, 4) {
                writer.queue_octets(&frame_head(FrameKind::Ping, 2));
                writer.queue_octets(b"hi");
            }
            if writer.pending() > 100_000 {
                writer.flush().await.unwrap();
            }
        }
        writer.queue(&Message::Goodbye {
            details: EMPTY_MAP,
            reason: "a.b",
        });
        writer.flush().await.unwrap();
        (writer, sum)
    });
    let (mut received, mut sum) = (0, 0_u64);
    while let Some(message @ Message::Yield { .. }) = reader.next().await.unwrap() {
        let data = crate::payload::bytes_arg(message.payload()).expect("bytes");
        received += data.len();
        sum += data.iter().map(|octet| u64::from(*octet)).sum::<u64>();
    }
    // PONGs may still be asked for until the other side has read all.
    let (_writer, sent) = writing.await.unwrap();
    assert_eq!(received, total);
    (received, sum ^ sent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_both_ways_at_once_and_pings_in_between_arrive_whole() {
    let (ours, theirs) = pair();
    let total = 48 << 20;
    let both = async {
        tokio::join!(
            tokio::spawn(send_and_count(ours, 1, total)),
            tokio::spawn(send_and_count(theirs, 2, total))
        )
    };
    let (one, other) = tokio::time::timeout(LIMIT, both)
        .await
        .expect("no side waits for ever");
    assert_eq!(
        one.unwrap().1,
        other.unwrap().1,
        "each received what the other sent"
    );
}
