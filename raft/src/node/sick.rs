//! A replica that is taken out: what is left in the folder says why, and it is not opened again.
//!
//! ```text
//! raft/sick              why; no replica is opened beside it
//! raft.aside-1/          a folder that was set aside for a new member, kept until an operator removes it
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::{Error, format};

const NAME: &str = "sick";

/// Why the replica in `dir` is out, if it is.
pub(super) fn read(dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join(NAME);
    match crate::fs::read(&path) {
        // Whatever it says, that it is there counts.
        Ok(why) => Ok(Some(String::from_utf8_lossy(&why).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format::disk(&path, &error)),
    }
}

/// Says in `dir` why its replica is out, durable when this returns.
pub(super) fn write(dir: &Path, why: &str) -> Result<(), Error> {
    let path = dir.join(NAME);
    let io_error = |error: std::io::Error| format::disk(&path, &error);
    let mut file = crate::fs::File::create(&path).map_err(io_error)?;
    file.write_all(why.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io_error)?;
    format::sync_dir(dir)
}

/// The id of the node whose folder this is, if it says so.
pub fn id_in(dir: &Path) -> Option<u64> {
    super::identity::read(dir)
        .ok()
        .flatten()
        .map(|identity| identity.id)
}

/// Sets the folder of a node aside, which nobody has open, so that an empty one can join in its place; gives where it is.
pub fn set_aside(dir: &Path) -> Result<PathBuf, Error> {
    let io_error = |error: std::io::Error| format::disk(dir, &error);
    let aside = (1..)
        .map(|number| dir.with_extension(format!("aside-{number}")))
        .find(|path| !path.exists());
    // The numbers have no end.
    let aside = aside.unwrap_or_default();
    std::fs::rename(dir, &aside).map_err(io_error)?;
    if let Some(parent) = dir.parent() {
        format::sync_dir(parent)?;
    }
    Ok(aside)
}
