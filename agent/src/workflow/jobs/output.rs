//! What an attempt writes, kept as it comes: few bytes in memory, more in a blob.

use pipes_job::record::{Content, SMALL_MAX};
use pipes_job::seams::Output;

use crate::blob::{self, Blobs, Upload};

/// Bytes so far.
pub(crate) struct Gathered {
    small: Vec<u8>,
    large: Option<Upload>,
    bytes: u64,
}

impl Gathered {
    /// Nothing yet.
    pub(crate) fn new() -> Gathered {
        Gathered {
            small: Vec::new(),
            large: None,
            bytes: 0,
        }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    /// More of them.
    pub(crate) async fn add(&mut self, blobs: &Blobs, bytes: &[u8]) -> Result<(), blob::Error> {
        self.bytes += bytes.len() as u64;
        if self.large.is_none() && self.bytes > SMALL_MAX as u64 {
            let mut upload = blobs.begin(self.bytes)?;
            upload.write(&std::mem::take(&mut self.small)).await?;
            self.large = Some(upload);
        }
        match &mut self.large {
            Some(upload) => upload.write(bytes).await?,
            None => self.small.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// All of them; a blob is on a majority of the voters when this returns.
    pub(crate) async fn finish(self) -> Result<Output, blob::Error> {
        let Some(upload) = self.large else {
            return Ok(Output::Small(self.small));
        };
        let digest = upload.finish(None).await?;
        Ok(Output::Blob(Content {
            bytes: self.bytes,
            sha256: digest.hex(),
            blob: true,
        }))
    }
}
