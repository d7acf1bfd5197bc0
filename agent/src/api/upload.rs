//! `pipes.service.put` and `pipes.blob.put`: bytes come in chunks against credit, and are named when a majority of the
//! voters has them on disk.
//!
//! ```text
//! caller   {name: "greet.py", digest: "sha256:...", size: 812}   [bytes] [bytes] ... the last chunk without progress
//! agent    [1048576]   credit as bytes are written   ->   {name, digest, size, kind, built}
//! ```

use pipes_wamp::client::{Connection, Reader, Writer};
use pipes_wamp::message::{self, Message};
use pipes_wamp::payload::{self, PayloadBuf};
use rmpv::Value;
use tokio::net::UnixStream;

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, value};
use crate::blob::Digest;
use crate::service::{self, HEAD_LENGTH, Kind, Naming, Record};

/// Bytes a caller may have under way.
const WINDOW: u64 = 1 << 20;
/// The largest executable or file: beyond any sane one, below what fills a disk by mistake.
const SIZE_MAX: u64 = 16 << 30;
/// Times a build is named anew when its blob was being collected.
const NAMING_TRIES: u32 = 3;

/// What the first chunk announces.
struct Announced {
    name: Option<String>,
    digest: Option<Digest>,
    size: u64,
}

/// Serves one call, on a session of its own.
pub(super) async fn serve(api: &Api, stream: UnixStream, named: bool) {
    let (reader, writer) = Connection::welcomed(stream).split();
    let mut upload = Upload {
        reader,
        writer,
        request: 1,
    };
    let answered = upload.take(api, named).await;
    let payload = match &answered {
        Ok(value) => PayloadBuf::of_values(vec![value.clone()], None),
        Err(error) => PayloadBuf::of_values(error.arguments(), None),
    };
    let (request, payload) = (upload.request, payload.as_payload());
    upload.writer.queue(&match &answered {
        Ok(_) => Message::Yield {
            request,
            progress: false,
            payload,
        },
        Err(error) => Message::Error {
            kind: message::kind::INVOCATION,
            request,
            details: message::EMPTY_MAP,
            error: error.uri(),
            payload,
        },
    });
    // A caller that is gone needs no answer.
    let _ = upload.writer.flush().await;
}

/// Whether a majority of the voters has a blob.
pub(super) async fn has(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let digest = parse_digest(&arguments.text("digest")?)?;
    Ok(Value::from(api.blobs.is_kept(&digest).await))
}

struct Upload {
    reader: Reader,
    writer: Writer,
    request: u64,
}

impl Upload {
    async fn take(&mut self, api: &Api, named: bool) -> Result<Value, Error> {
        let announced = self.first(named).await?;
        let naming = match announced.digest {
            Some(digest) if named => Some(Naming::begin(&api.store, digest).await?),
            _ => None,
        };
        let mut upload = api.blobs.begin(announced.size)?;
        self.credit(WINDOW).await?;
        let (mut head, mut size) = (Vec::new(), 0_u64);
        let mut last = false;
        while !last {
            let Ok(Some(message)) = self.reader.next().await else {
                return Err(gone());
            };
            let Message::Invocation { details, payload, .. } = message else {
                return Err(gone());
            };
            last = !details.progress;
            let bytes = payload::bytes_arg(payload).unwrap_or_default();
            size += bytes.len() as u64;
            if size > announced.size {
                return Err(Error::Usage("more bytes came than were announced".into()));
            }
            head.extend_from_slice(&bytes[..bytes.len().min(HEAD_LENGTH - head.len())]);
            upload.write(bytes).await?;
            let taken = bytes.len() as u64;
            if !last {
                self.credit(taken).await?;
            }
        }
        if size != announced.size {
            return Err(Error::Usage(format!(
                "{size} bytes came, {} were announced",
                announced.size
            )));
        }
        let Some(name) = announced.name else {
            let digest = upload.finish(announced.digest).await?;
            return Ok(Value::Map(vec![("digest".into(), digest.to_string().into())]));
        };
        let kind = Kind::of(&head).map_err(|error| Error::CannotStart(error.to_string()))?;
        let digest = upload.finish(announced.digest).await?;
        name_it(api, &name, digest, size, kind, naming).await
    }

    async fn first(&mut self, named: bool) -> Result<Announced, Error> {
        let Ok(Some(Message::Invocation { request, payload, .. })) = self.reader.next().await else {
            return Err(gone());
        };
        self.request = request;
        let mut arguments = Arguments::of(payload)?;
        let name = if named {
            Some(arguments.text("name")?)
        } else {
            None
        };
        if let Some(name) = &name {
            service::check_name(name).map_err(|error| Error::Usage(error.to_string()))?;
        }
        let digest = arguments
            .take("digest")
            .and_then(|value| value.as_str().map(str::to_owned));
        let digest = digest.map(|text| parse_digest(&text)).transpose()?;
        let size = arguments
            .number("size")
            .ok_or_else(|| Error::Usage("size must be given, in bytes".into()))?;
        if size > SIZE_MAX {
            return Err(Error::Usage(format!(
                "{size} bytes are more than the {SIZE_MAX} that are taken"
            )));
        }
        Ok(Announced { name, digest, size })
    }

    async fn credit(&mut self, bytes: u64) -> Result<(), Error> {
        let payload = PayloadBuf::of_values(vec![bytes.into()], None);
        self.writer.queue(&Message::Yield {
            request: self.request,
            progress: true,
            payload: payload.as_payload(),
        });
        self.writer.flush().await.map_err(|_| gone())
    }
}

/// Makes the blob the newest version of a service.
async fn name_it(
    api: &Api,
    name: &str,
    digest: Digest,
    size: u64,
    kind: Kind,
    naming: Option<Naming>,
) -> Result<Value, Error> {
    let record = Record::new(name, digest, size, kind);
    let mut naming = naming;
    for _ in 0..NAMING_TRIES {
        let right = match naming.take() {
            Some(right) => right,
            None => {
                let right = Naming::begin(&api.store, digest).await?;
                if !api.blobs.is_kept(&digest).await {
                    return Err(Error::Unavailable(
                        "the executable was removed meanwhile; build it again".into(),
                    ));
                }
                right
            }
        };
        match service::put(&api.store, &record, right).await {
            Ok(()) => return Ok(value(&record)),
            Err(service::Error::Moved(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(service::Error::Moved(digest).into())
}

fn parse_digest(text: &str) -> Result<Digest, Error> {
    text.parse()
        .map_err(|_| Error::Usage(format!("'{text}' is no digest: sha256: and 64 hex digits")))
}

/// The caller's session broke: nobody hears this.
fn gone() -> Error {
    Error::Unavailable("the caller is gone".into())
}
