//! Who this node is: one small file that is written once and again only when the members change.
//!
//! A node id belongs to one folder. The file says of which cluster the folder is, which id it has, whether a replica
//! lies in it, and where other members are, for a node without one.

use crate::fs::File;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::format::{self, FILE_HEAD_LEN, FrameReader, Kind, ReadFrame};
use crate::{Error, Member, type_config};

pub(super) const NAME: &str = "identity";

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The cluster's id.
    pub(super) cluster: String,
    /// This node's id.
    pub(super) id: u64,
    /// Whether a replica lies here.
    pub(super) has_replica: bool,
    /// The members when it was written.
    pub(super) members: BTreeMap<u64, Member>,
}

/// Reads the identity in `dir`; none in an empty folder.
pub(super) fn read(dir: &Path) -> Result<Option<Identity>, Error> {
    let path = dir.join(NAME);
    let bytes = match crate::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format::disk(&path, &error)),
    };
    Kind::Identity.check(&bytes, &path)?;
    let mut frames = FrameReader::new(&bytes[FILE_HEAD_LEN..], FILE_HEAD_LEN as u64);
    let damaged = || format::corrupt(&path, FILE_HEAD_LEN as u64, "the identity does not check");
    match frames.next().map_err(|error| format::disk(&path, &error))? {
        ReadFrame::Whole(_, _, body) => type_config::decode(body).map(Some).map_err(|_| damaged()),
        ReadFrame::End | ReadFrame::Broken(_) => Err(damaged()),
    }
}

/// Writes the identity into `dir`, durable when this returns.
pub(super) fn write(dir: &Path, identity: &Identity) -> Result<(), Error> {
    let mut bytes = Kind::Identity.head().to_vec();
    let start = format::begin_frame(&mut bytes);
    type_config::encode_into(identity, &mut bytes).map_err(|error| Error::Corrupt(error.to_string()))?;
    format::finish_frame(&mut bytes, start, 1);
    let path = dir.join(NAME);
    let part = path.with_extension("part");
    let io_error = |error: std::io::Error| format::disk(&part, &error);
    let mut file = File::create(&part).map_err(io_error)?;
    file.write_all(&bytes).map_err(io_error)?;
    file.sync_all().map_err(io_error)?;
    crate::fs::rename(&part, &path).map_err(io_error)?;
    format::sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_identity_is_refused_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let identity = Identity {
            cluster: "c".into(),
            id: 7,
            has_replica: true,
            members: BTreeMap::new(),
        };
        write(dir.path(), &identity).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(identity));
        let path = dir.path().join(NAME);
        let mut bytes = crate::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        crate::fs::write(&path, bytes).unwrap();
        assert!(read(dir.path()).is_err());
    }
}
