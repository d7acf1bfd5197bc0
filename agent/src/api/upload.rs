//! Bytes of a caller's on their way to a majority of the voters: they come in chunks, against credit.
//!
//! ```text
//! caller   {name: "greet.py", digest: "sha256:...", size: 812}   [bytes] [bytes] ... the last chunk without progress
//! agent    [1048576]   credit as bytes are written   ->   {name, digest, size, kind, built}
//! ```

use std::time::Duration;

use pipes_wamp::client::Reader;
use pipes_wamp::message::Message;
use pipes_wamp::payload;
use tokio::time::timeout;

use crate::api::arguments::Arguments;
use crate::api::streaming::{Caller, gone};
use crate::api::{Api, Error};
use crate::blob::{self, Digest};
use crate::service::HEAD_LENGTH;

/// Bytes a caller may have under way.
const WINDOW: u64 = 1 << 20;
/// A caller that may send and does not for so long has gone, or holds room that others need.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The largest executable or file: beyond any sane one, below what fills a disk by mistake.
const SIZE_MAX: u64 = 16 << 30;

/// What the first chunk announces.
pub(super) struct Announced {
    /// Of all bytes, if it is known before.
    pub(super) digest: Option<Digest>,
    /// How many bytes come.
    pub(super) size: u64,
}

/// All that was announced, here and not yet named.
pub(super) struct Received {
    /// The first bytes, which tell what it is.
    pub(super) head: Vec<u8>,
    /// The blob, to be finished.
    pub(super) upload: blob::Upload,
}

impl Announced {
    /// Reads it.
    pub(super) fn of(arguments: &mut Arguments) -> Result<Announced, Error> {
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
        Ok(Announced { digest, size })
    }

    /// Takes the bytes.
    pub(super) async fn receive(
        &self,
        api: &Api,
        chunks: &mut Reader,
        caller: &mut Caller,
    ) -> Result<Received, Error> {
        let mut upload = api.blobs.begin(self.size)?;
        caller.credit(WINDOW).await?;
        let (mut head, mut size) = (Vec::new(), 0_u64);
        loop {
            let chunk = timeout(SILENCE_MAX, chunks.next()).await;
            let chunk = chunk.map_err(|_| Error::Usage(silent()))?;
            let Ok(Some(Message::Invocation { details, payload, .. })) = chunk else {
                return Err(gone());
            };
            let bytes = payload::bytes_arg(payload).unwrap_or_default();
            size += bytes.len() as u64;
            if size > self.size {
                return Err(Error::Usage("more bytes came than were announced".into()));
            }
            head.extend_from_slice(&bytes[..bytes.len().min(HEAD_LENGTH - head.len())]);
            upload.write(bytes).await?;
            if !details.progress {
                break;
            }
            caller.credit(bytes.len() as u64).await?;
        }
        if size != self.size {
            return Err(Error::Usage(format!(
                "{size} bytes came, {} were announced",
                self.size
            )));
        }
        Ok(Received { head, upload })
    }
}

fn silent() -> String {
    format!("nothing came for {} s; send it again", SILENCE_MAX.as_secs())
}

/// A digest as callers write it.
pub(super) fn parse_digest(text: &str) -> Result<Digest, Error> {
    text.parse()
        .map_err(|_| Error::Usage(format!("'{text}' is no digest: sha256: and 64 hex digits")))
}
