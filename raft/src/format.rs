//! All that lies on disk carries a version and a checksum; this file says how, and what a torn tail is.
//!
//! Every file begins with eight octets that name its kind and four with the version of its layout:
//!
//! ```text
//! "PIPESLOG" 2     a segment of the log: frames
//! "PIPESSNP" 3     a snapshot: frames, the last of them empty
//! "PIPESIDN" 1     the node's identity: one frame
//! ```
//!
//! A frame is what is made durable at once:
//!
//! ```text
//! magic u32 | octets u32 | sequence u64 | crc of the body u32 | crc of the head u32 | body       (little-endian)
//! ```
//!
//! After its last frame a segment of the log may hold zeros: room for the frames to come.
//!
//! A log's frame is written only when the one before it has been synced, and numbers rise by one. So a frame that
//! does not check is a *torn tail* if no whole frame head of a later number follows it: it was never synced, nothing
//! in it was ever answered, and it may be cut off. If one follows, something that was synced is damaged, and the file
//! is refused: never misread, never dropped in silence.

use crate::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::Error;

/// Octets of a file's head.
pub(crate) const FILE_HEAD_LEN: usize = 12;
/// Octets of a frame's head.
pub(crate) const FRAME_HEAD_LEN: usize = 24;
/// Most octets of a frame's body: what one group commit may hold. A larger length is damage.
pub(crate) const FRAME_BODY_MAX: usize = 16 * 1024 * 1024;
/// The first octets of a frame.
const FRAME_MAGIC: u32 = 0x7065_f1a3;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A segment of the log.
    Log,
    /// A snapshot.
    Snapshot,
    /// The node's identity.
    Identity,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Kind::Log => b"PIPESLOG",
            Kind::Snapshot => b"PIPESSNP",
            Kind::Identity => b"PIPESIDN",
        }
    }

    /// The layout this program writes, and the newest it reads; it reads all before. A log of layout 1 has no room,
    /// a snapshot of layout 1 no digest, of layout 2 no clock.
    fn version(self) -> u32 {
        match self {
            Kind::Snapshot => 3,
            Kind::Log => 2,
            Kind::Identity => 1,
        }
    }

    /// The head of a file of this kind.
    pub(crate) fn head(self) -> [u8; FILE_HEAD_LEN] {
        let mut head = [0; FILE_HEAD_LEN];
        head[..8].copy_from_slice(self.magic());
        head[8..].copy_from_slice(&self.version().to_le_bytes());
        head
    }

    /// Checks the head of the file at `path`; gives its layout.
    pub(crate) fn check(self, head: &[u8], path: &Path) -> Result<u32, Error> {
        let is_kind = head.len() >= FILE_HEAD_LEN && head[..8] == *self.magic();
        if !is_kind {
            return Err(corrupt(path, 0, "it does not begin as such a file does"));
        }
        let version = u32_at(head, 8);
        if !(1..=self.version()).contains(&version) {
            let why = format!(
                "its layout is {version}, and this program reads up to {}",
                self.version()
            );
            return Err(corrupt(path, 8, &why));
        }
        Ok(version)
    }
}

/// Linux's number for a disk that fails, which std has no name for.
const EIO: i32 = 5;

/// An error that names the file and the place.
pub(crate) fn corrupt(path: &Path, offset: u64, why: &str) -> Error {
    Error::Corrupt(format!("{}: damaged at octet {offset}: {why}", path.display()))
}

/// An error of the disk that names the file. What the disk cannot give back is as good as damaged.
pub(crate) fn disk(path: &Path, error: &io::Error) -> Error {
    let text = format!("{}: {error}", path.display());
    match error.raw_os_error() {
        Some(EIO) => Error::Corrupt(text),
        _ => Error::Disk(text),
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// Octets of the body.
    pub(crate) len: usize,
    /// The frame's number.
    pub(crate) sequence: u64,
    body_crc: u32,
}

impl FrameHead {
    /// Reads a head; nothing if it is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<FrameHead> {
        let head = bytes.get(..FRAME_HEAD_LEN)?;
        let len = u32_at(head, 4) as usize;
        let is_whole = u32_at(head, 0) == FRAME_MAGIC
            && u32_at(head, 20) == crc32fast::hash(&head[..20])
            && len <= FRAME_BODY_MAX;
        let sequence = u64::from(u32_at(head, 8)) | u64::from(u32_at(head, 12)) << 32;
        is_whole.then_some(FrameHead {
            len,
            sequence,
            body_crc: u32_at(head, 16),
        })
    }

    /// Whether `body` is the one the head was written for.
    pub(crate) fn checks(&self, body: &[u8]) -> bool {
        body.len() == self.len && (crc32fast::hash(body) == self.body_crc || crate::mutant!(ChecksumIgnored))
    }
}

/// Begins a frame in `out`: room for the head, then the body is appended, then [`finish_frame`].
pub(crate) fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + FRAME_HEAD_LEN, 0);
    start
}

/// Fills in the head of the frame that began at `start` and ends where `out` ends.
pub(crate) fn finish_frame(out: &mut [u8], start: usize, sequence: u64) {
    let (head, body) = out[start..].split_at_mut(FRAME_HEAD_LEN);
    head[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    head[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[8..16].copy_from_slice(&sequence.to_le_bytes());
    head[16..20].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    let head_crc = crc32fast::hash(&head[..20]);
    head[20..24].copy_from_slice(&head_crc.to_le_bytes());
}

/// Whether a whole frame head numbered above `sequence` lies anywhere in `bytes`.
pub(crate) fn holds_later_frame(bytes: &[u8], sequence: u64) -> bool {
    let magic = FRAME_MAGIC.to_le_bytes();
    bytes.windows(FRAME_HEAD_LEN).any(|window| {
        window[..4] == magic && FrameHead::parse(window).is_some_and(|head| head.sequence > sequence)
    })
}

/// Reads frames one after another.
pub(crate) struct FrameReader<R> {
    reader: R,
    offset: u64,
    body: Vec<u8>,
}

/// What a [`FrameReader`] found.
pub(crate) enum ReadFrame<'a> {
    /// A whole frame; the offset is that of its body.
    Whole(FrameHead, u64, &'a [u8]),
    /// The end, right after a whole frame.
    End,
    /// Something that is no whole frame, at this offset.
    Broken(u64),
}

impl<R: Read> FrameReader<R> {
    /// Reads from `reader`, which stands at `offset` of its file.
    pub(crate) fn new(reader: R, offset: u64) -> FrameReader<R> {
        FrameReader {
            reader,
            offset,
            body: Vec::new(),
        }
    }

    /// Reads the next frame.
    pub(crate) fn next(&mut self) -> io::Result<ReadFrame<'_>> {
        let mut bytes = [0; FRAME_HEAD_LEN];
        let read = read_up_to(&mut self.reader, &mut bytes)?;
        if read == 0 {
            return Ok(ReadFrame::End);
        }
        let start = self.offset;
        let Some(head) = FrameHead::parse(&bytes[..read]) else {
            return Ok(ReadFrame::Broken(start));
        };
        self.body.resize(head.len, 0);
        let read = read_up_to(&mut self.reader, &mut self.body)?;
        if !head.checks(&self.body[..read]) {
            return Ok(ReadFrame::Broken(start));
        }
        self.offset += (FRAME_HEAD_LEN + head.len) as u64;
        Ok(ReadFrame::Whole(head, start + FRAME_HEAD_LEN as u64, &self.body))
    }
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Makes a folder and those above it, each durable with its name; also one that was made just before a kill.
pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    let io_error = |error: io::Error| disk(dir, &error);
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
    let is_there = crate::fs::exists(dir).map_err(io_error)?;
    if !is_there {
        above.map_or(Ok(()), make_dir)?;
        crate::fs::create_dir_all(dir).map_err(io_error)?;
    }
    match sync_dir(above.unwrap_or(Path::new("."))) {
        // A folder above that may not be read was not made here.
        Err(_) if is_there => Ok(()),
        synced => synced,
    }
}

/// Makes what was created, renamed or removed in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    if crate::mutant!(FolderUnsynced) {
        return Ok(());
    }
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| disk(dir, &error))
}

/// The little-endian number at `at`, which the caller knows to be within `bytes`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8], sequence: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let start = begin_frame(&mut out);
        out.extend_from_slice(body);
        finish_frame(&mut out, start, sequence);
        out
    }

    #[test]
    fn a_frame_with_any_octet_changed_does_not_check() {
        let whole = frame(b"body", 7);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let mut reader = FrameReader::new(bytes.as_slice(), 0);
            assert!(
                matches!(reader.next().unwrap(), ReadFrame::Broken(0)),
                "octet {at}"
            );
        }
    }

    #[test]
    fn a_later_frame_after_a_broken_one_is_found() {
        let mut bytes = frame(b"one", 1);
        bytes[3] ^= 1;
        assert!(!holds_later_frame(&bytes, 1));
        bytes.extend(frame(b"two", 2));
        assert!(holds_later_frame(&bytes, 1));
    }

    #[test]
    fn a_file_of_another_kind_or_a_newer_layout_is_refused() {
        let path = Path::new("x");
        assert!(Kind::Log.check(&Kind::Log.head(), path).is_ok());
        assert!(Kind::Log.check(b"PIPESLOG\x01\0\0\0", path).is_ok());
        assert!(Kind::Log.check(&Kind::Snapshot.head(), path).is_err());
        let mut newer = Kind::Log.head();
        newer[8] = 3;
        assert!(
            Kind::Log
                .check(&newer, path)
                .unwrap_err()
                .to_string()
                .contains("layout is 3")
        );
        assert!(Kind::Log.check(b"PIPES", path).is_err());
    }
}
