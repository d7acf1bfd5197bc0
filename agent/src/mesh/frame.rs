//! Frames: a length, then that many bytes.
//!
//! ```text
//! length, 4 octets, little endian | body, at most FRAME_MAX
//! ```
//!
//! The body is bincode of what the class says, or raw bytes of a blob. Always: a length is judged before anything is
//! allocated for it, and a body that has bytes left over after its value is refused.

use bincode::Options;
use serde::Serialize;
use serde::de::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Error;

/// What one frame carries of something longer. As much as a pipe holds: small enough that another's frame gets between,
/// large enough that heads and system calls do not matter.
pub const PIECE_MAX: usize = 64 * 1024;

/// The longest body: a piece and its head. A longer one ends the connection.
pub const FRAME_MAX: usize = PIECE_MAX + 256;

/// Octets before the body.
pub const HEAD: usize = 4;

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_limit(FRAME_MAX as u64)
}

/// Appends the frame of `value` to `out`.
pub fn encode(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    if let Err(error) = options().serialize_into(&mut *out, value) {
        out.truncate(start);
        return Err(Error::Malformed(error.to_string()));
    }
    // Within u32: bincode's limit is FRAME_MAX.
    let length = (out.len() - start - HEAD) as u32;
    out[start..start + HEAD].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// What a whole body says.
pub fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    options()
        .deserialize(body)
        .map_err(|error| Error::Malformed(error.to_string()))
}

/// Reads one body into `body`; `false` where the peer closed in order before it.
pub async fn read<R: AsyncRead + Unpin>(stream: &mut R, body: &mut Vec<u8>) -> Result<bool, Error> {
    let mut head = [0; HEAD];
    if stream.read(&mut head[..1]).await.map_err(Error::of_tls)? == 0 {
        return Ok(false);
    }
    stream.read_exact(&mut head[1..]).await.map_err(Error::of_tls)?;
    let length = u32::from_le_bytes(head) as usize;
    if length > FRAME_MAX {
        return Err(Error::TooLong {
            length,
            limit: FRAME_MAX,
        });
    }
    body.resize(length, 0);
    stream.read_exact(body).await.map_err(Error::of_tls)?;
    Ok(true)
}

/// Writes the frame of `value` and sees it off.
pub async fn write<W: AsyncWrite + Unpin>(stream: &mut W, value: &impl Serialize) -> Result<(), Error> {
    let mut frame = Vec::new();
    encode(value, &mut frame)?;
    stream.write_all(&frame).await.map_err(Error::of_tls)?;
    stream.flush().await.map_err(Error::of_tls)
}

/// Reads one frame and decodes it; an orderly end before it is an error here.
pub async fn read_value<T, R>(stream: &mut R) -> Result<T, Error>
where
    T: serde::de::DeserializeOwned,
    R: AsyncRead + Unpin,
{
    let mut body = Vec::new();
    if !read(stream, &mut body).await? {
        return Err(Error::Gone);
    }
    decode(&body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_comes_back_as_it_was_sent() {
        let mut wire = Vec::new();
        encode(&("raft", 7u64), &mut wire).unwrap();
        let mut body = Vec::new();
        assert!(read(&mut wire.as_slice(), &mut body).await.unwrap());
        assert_eq!(decode::<(String, u64)>(&body).unwrap(), ("raft".to_owned(), 7));
        assert!(!read(&mut [].as_slice(), &mut body).await.unwrap());
    }

    #[tokio::test]
    async fn a_length_beyond_the_limit_is_refused_before_its_body_is_read() {
        let wire = (FRAME_MAX as u32 + 1).to_le_bytes();
        let refused = read(&mut wire.as_slice(), &mut Vec::new()).await.unwrap_err();
        assert!(matches!(refused, Error::TooLong { limit: FRAME_MAX, .. }));
    }

    #[tokio::test]
    async fn a_frame_cut_short_is_a_break_and_no_end() {
        let mut wire = Vec::new();
        encode(&7u64, &mut wire).unwrap();
        for cut in 1..wire.len() {
            assert!(matches!(
                read(&mut &wire[..cut], &mut Vec::new()).await,
                Err(Error::Gone)
            ));
        }
    }

    #[test]
    fn bytes_left_over_are_refused() {
        assert!(matches!(decode::<u8>(&[1, 2]), Err(Error::Malformed(_))));
    }
}
