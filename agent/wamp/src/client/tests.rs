//! The client against a scripted peer over a socket pair. Nothing here waits by time, save to show that nothing comes.

use std::time::Duration;

use tokio::net::UnixStream;

use super::{Connection, Reader, Writer};
use crate::message::{Message, Payload};
use crate::payload::PayloadBuf;

mod connect;
mod connection;
mod ending;
mod session;

/// More than anything here takes: a test that hangs fails.
const LIMIT: Duration = Duration::from_secs(20);

/// Two ends of a connection.
fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("a socket pair")
}

/// The other side: it reads messages and answers as the test says.
struct Peer {
    reader: Reader,
    writer: Writer,
}

impl Peer {
    fn new(stream: UnixStream) -> Peer {
        let (reader, writer) = Connection::welcomed(stream).split();
        Peer { reader, writer }
    }

    /// The next message, as its octets.
    async fn octets(&mut self) -> Option<Vec<u8>> {
        let next = tokio::time::timeout(LIMIT, self.reader.next())
            .await
            .expect("a message in time");
        let message = next.expect("a good message")?;
        let mut octets = Vec::new();
        message.encode(&mut octets);
        Some(octets)
    }

    /// The next message, to be looked at.
    async fn expect<T>(&mut self, look: impl FnOnce(Message<'_>) -> T) -> T {
        let octets = self.octets().await.expect("a message");
        look(Message::parse(&octets).expect("a good message"))
    }

    async fn send(&mut self, message: Message<'_>) {
        self.writer.queue(&message);
        self.writer.flush().await.expect("the client reads");
    }
}

fn number(payload: Payload<'_>) -> u64 {
    payload.args_as::<(u64,)>().expect("one number").0
}

fn of_number(number: u64) -> PayloadBuf {
    PayloadBuf::of_values(vec![number.into()], None)
}
