//! The file call: a shim asks its own agent for the bytes of a run's file, under credit.
//!
//! ```text
//! shim   {digest, credit: 1048576}           [61440] ...      so many bytes more, once so many are written
//! agent  [b""]...   [b"bytes"] [b"bytes"] ...  -> [size]      or an error [why]
//! ```
//!
//! An empty part each second says that the file is still on its way to the agent. Only the final answer, with as many bytes as came, is the end of the file; every other end of the call is a break. A
//! digest is known only to whom it was told with a run.

use pipes_wamp::message::Payload;
use pipes_wamp::payload::PayloadBuf;

/// Most bytes of one part: a message that the router need not make room for.
pub const PART_MAX: usize = 60 << 10;
/// Bytes that may be on their way to a shim.
pub const WINDOW: u64 = 1 << 20;

/// The first chunk: which file, and how many bytes of it may come at once.
pub fn begin(digest: &str, credit: u64) -> PayloadBuf {
    PayloadBuf::of_kwargs(vec![("digest", digest.into()), ("credit", credit.into())])
}

/// A later chunk: so many bytes more may come.
pub fn credit(bytes: u64) -> PayloadBuf {
    PayloadBuf::of_values(vec![bytes.into()], None)
}

/// The final answer: how many bytes the file has.
pub fn end(size: u64) -> PayloadBuf {
    PayloadBuf::of_values(vec![size.into()], None)
}

/// Reads the final answer.
pub fn size(payload: Payload<'_>) -> Option<u64> {
    payload.args().ok()?.first()?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_file_says_its_size() {
        assert_eq!(size(end(3).as_payload()), Some(3));
        assert_eq!(size(begin("sha256:00", 7).as_payload()), None);
        assert_eq!(size(PayloadBuf::of_bytes(b"3").as_payload()), None);
    }
}
