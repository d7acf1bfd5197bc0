//! A call that has a session of its own: its first chunk, and what is said to its caller.

use pipes_wamp::client::{Connection, Reader, Writer};
use pipes_wamp::message::Message;
use pipes_wamp::payload::PayloadBuf;
use pipes_wamp::streaming::Callee;
use tokio::net::UnixStream;

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, reach};

/// Waits for the first chunk of a call of `procedure`: gives whence further ones come, where answers go, and the
/// arguments, where its caller's reach goes so far. `None` when the caller is gone.
pub(super) async fn accept(
    api: &Api,
    procedure: &str,
    stream: UnixStream,
) -> Option<(Reader, Caller, Result<Arguments, Error>)> {
    let (chunks, caller, arguments, token) = greet(stream).await?;
    let arguments = match arguments {
        Ok(mut arguments) => reach::admit(api, procedure, token.as_deref(), &mut arguments)
            .await
            .map(|()| arguments),
        Err(error) => Err(error),
    };
    Some((chunks, caller, arguments))
}

/// What a call begins with, and the token that let its caller in.
type Greeted = (Reader, Caller, Result<Arguments, Error>, Option<String>);

/// Waits for the first chunk.
pub(super) async fn greet(stream: UnixStream) -> Option<Greeted> {
    let (mut chunks, writer) = Connection::welcomed(stream).split();
    let Ok(Some(Message::Invocation {
        request,
        details,
        payload,
        ..
    })) = chunks.next().await
    else {
        return None;
    };
    let arguments = Arguments::of(payload);
    let token = details.token.map(str::to_owned);
    let caller = Caller {
        writer,
        call: Callee { request },
        is_whole: !details.progress,
    };
    Some((chunks, caller, arguments, token))
}

/// Whoever called.
pub(super) struct Caller {
    writer: Writer,
    call: Callee,
    /// The first chunk was the last one.
    pub(super) is_whole: bool,
}

impl Caller {
    /// Says a part of the answer.
    pub(super) async fn part(&mut self, part: &PayloadBuf) -> Result<(), Error> {
        self.call.part(&mut self.writer, part.as_payload());
        self.writer.flush().await.map_err(|_| gone())
    }

    /// Lets it send so many bytes more.
    pub(super) async fn credit(&mut self, bytes: u64) -> Result<(), Error> {
        self.call.credit(&mut self.writer, bytes);
        self.writer.flush().await.map_err(|_| gone())
    }

    /// Says the last of the answer.
    pub(super) async fn end(mut self, answered: Result<PayloadBuf, Error>) {
        match answered {
            Ok(answer) => self.call.result(&mut self.writer, answer.as_payload()),
            Err(error) => {
                let arguments = PayloadBuf::of_values(error.arguments(), None);
                self.call
                    .error(&mut self.writer, error.uri(), arguments.as_payload());
            }
        }
        // A caller that is gone needs no answer.
        let _ = self.writer.flush().await;
    }
}

/// The caller's session broke: nobody hears this.
pub(super) fn gone() -> Error {
    Error::Unavailable("the caller is gone".into())
}
