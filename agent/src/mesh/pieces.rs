//! Messages cut into pieces, so that no message waits behind a longer one.
//!
//! Many messages are under way on a connection; each piece says whose it is and whether it is the last:
//!
//! ```text
//! id 7, more, 64 KiB | id 8, last, 90 bytes | id 7, more, 64 KiB | id 7, last, 1 KiB
//! ```
//!
//! Always: (1) a message's pieces keep their order; (2) messages under way take turns, a piece each; (3) what a peer makes
//! us hold is bounded: [`MESSAGE_MAX`] a message, [`HELD_MAX`] for all that have not come whole.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Error;
use super::frame::{self, PIECE_MAX};

/// The longest message: openraft's largest append, which is bounded by proposals in flight (16 MiB), with room.
pub const MESSAGE_MAX: usize = 64 * 1024 * 1024;

/// What may be held of messages that have not come whole, a connection. Beyond it the peer breaks its side of the
/// protocol (it sends at most so much at once) and the connection ends.
pub const HELD_MAX: usize = 96 * 1024 * 1024;

/// What the writer gathers before it writes: some pieces, so that small messages share a system call.
const BATCH_MAX: usize = 2 * PIECE_MAX;

/// How many messages take turns on a connection; further ones wait in their queue.
const TURNS_MAX: usize = 256;

/// How many bytes may take turns before another message is let in: with that one they are within [`HELD_MAX`].
const TURNS_BYTES_MAX: usize = HELD_MAX - MESSAGE_MAX;

#[derive(Serialize, Deserialize)]
struct Piece<'a> {
    id: u64,
    more: bool,
    #[serde(borrow, with = "serde_bytes")]
    bytes: &'a [u8],
}

/// A message to be sent.
pub struct Outgoing {
    /// What its answer, or it as an answer, is known by.
    pub id: u64,
    /// All of it.
    pub bytes: Vec<u8>,
}

struct Turn {
    message: Outgoing,
    sent: usize,
}

/// Sends what comes in `queue`, in turns, until the queue is closed and all is sent, or the stream breaks. `take` is
/// asked as each message comes out of the queue and may drop it.
pub async fn send<W, T>(
    stream: &mut W,
    queue: &mut mpsc::Receiver<T>,
    mut take: impl FnMut(T) -> Option<Outgoing>,
) -> Result<(), Error>
where
    W: AsyncWrite + Unpin,
{
    let mut turns: VecDeque<Turn> = VecDeque::new();
    let mut batch = Vec::new();
    let mut held = 0;
    loop {
        if turns.is_empty() {
            match queue.recv().await {
                Some(next) => held += enter(&mut turns, take(next)),
                None => return Ok(()),
            }
        }
        while turns.len() < TURNS_MAX && held < TURNS_BYTES_MAX {
            match queue.try_recv() {
                Ok(next) => held += enter(&mut turns, take(next)),
                Err(_) => break,
            }
        }
        batch.clear();
        while batch.len() < BATCH_MAX
            && let Some(mut turn) = turns.pop_front()
        {
            let rest = &turn.message.bytes[turn.sent..];
            let bytes = &rest[..rest.len().min(PIECE_MAX)];
            let more = bytes.len() < rest.len();
            frame::encode(
                &Piece {
                    id: turn.message.id,
                    more,
                    bytes,
                },
                &mut batch,
            )?;
            turn.sent += bytes.len();
            if more {
                turns.push_back(turn);
            } else {
                held -= turn.message.bytes.len();
            }
        }
        stream.write_all(&batch).await.map_err(Error::of_tls)?;
        stream.flush().await.map_err(Error::of_tls)?;
        // An idle connection holds nothing.
        if turns.is_empty() {
            batch = Vec::new();
        }
    }
}

fn enter(turns: &mut VecDeque<Turn>, message: Option<Outgoing>) -> usize {
    let Some(message) = message else { return 0 };
    let length = message.bytes.len();
    turns.push_back(Turn { message, sent: 0 });
    length
}

/// Puts messages together again.
#[derive(Default)]
pub struct Assembly {
    parts: HashMap<u64, Vec<u8>>,
    held: usize,
}

impl Assembly {
    /// Takes one frame's body; gives the message that it completes.
    pub fn take(&mut self, body: &[u8]) -> Result<Option<Outgoing>, Error> {
        let piece: Piece<'_> = frame::decode(body)?;
        if !piece.more && !self.parts.contains_key(&piece.id) {
            return Ok(Some(Outgoing {
                id: piece.id,
                bytes: piece.bytes.to_vec(),
            }));
        }
        let part = self.parts.entry(piece.id).or_default();
        part.extend_from_slice(piece.bytes);
        self.held += piece.bytes.len();
        let length = part.len();
        if length > MESSAGE_MAX {
            return Err(Error::TooLong {
                length,
                limit: MESSAGE_MAX,
            });
        }
        if self.held > HELD_MAX {
            return Err(Error::TooLong {
                length: self.held,
                limit: HELD_MAX,
            });
        }
        if piece.more {
            return Ok(None);
        }
        self.held -= length;
        Ok(self
            .parts
            .remove(&piece.id)
            .map(|bytes| Outgoing { id: piece.id, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(messages: Vec<Outgoing>) -> Vec<u8> {
        let (sender, mut queue) = mpsc::channel(16);
        for message in messages {
            sender.send(message).await.unwrap_or_else(|_| unreachable!());
        }
        drop(sender);
        let mut wire = Vec::new();
        send(&mut wire, &mut queue, Some).await.unwrap();
        wire
    }

    async fn received(mut wire: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut assembly = Assembly::default();
        let (mut body, mut messages) = (Vec::new(), Vec::new());
        while frame::read(&mut wire, &mut body).await.unwrap() {
            messages.extend(
                assembly
                    .take(&body)
                    .unwrap()
                    .map(|message| (message.id, message.bytes)),
            );
        }
        assert_eq!(assembly.held, 0);
        messages
    }

    #[tokio::test]
    async fn a_short_message_overtakes_a_long_one_and_both_arrive_whole() {
        let long: Vec<u8> = (0..PIECE_MAX * 3 + 5).map(|index| index as u8).collect();
        let wire = sent(vec![
            Outgoing {
                id: 1,
                bytes: long.clone(),
            },
            Outgoing {
                id: 2,
                bytes: b"beat".to_vec(),
            },
        ])
        .await;
        assert_eq!(received(&wire).await, [(2, b"beat".to_vec()), (1, long)]);
    }

    #[tokio::test]
    async fn an_empty_message_and_one_of_exactly_a_piece_arrive() {
        let wire = sent(vec![
            Outgoing {
                id: 1,
                bytes: Vec::new(),
            },
            Outgoing {
                id: 2,
                bytes: vec![7; PIECE_MAX],
            },
            Outgoing {
                id: 3,
                bytes: vec![8; PIECE_MAX * 2],
            },
        ])
        .await;
        let lengths: Vec<_> = received(&wire)
            .await
            .iter()
            .map(|(id, bytes)| (*id, bytes.len()))
            .collect();
        assert_eq!(lengths, [(1, 0), (2, PIECE_MAX), (3, PIECE_MAX * 2)]);
    }

    #[test]
    fn a_peer_that_never_ends_its_message_is_stopped_at_the_limit() {
        let mut assembly = Assembly::default();
        let mut body = Vec::new();
        frame::encode(
            &Piece {
                id: 1,
                more: true,
                bytes: &vec![0; PIECE_MAX],
            },
            &mut body,
        )
        .unwrap();
        let refused = (0..).find_map(|_| assembly.take(&body[frame::HEAD..]).err());
        assert!(matches!(
            refused,
            Some(Error::TooLong {
                limit: MESSAGE_MAX,
                ..
            })
        ));
    }
}
