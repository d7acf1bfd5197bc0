//! The user's last job from this machine, for commands that are given no ID: one small file a context.

use std::fs;
use std::path::PathBuf;

use crate::context::{replace, xdg};
use crate::error::Error;

fn path(context: &str) -> Result<PathBuf, Error> {
    let folder = xdg("XDG_STATE_HOME", ".local/state")?.join("pipes");
    // No cluster is called so, since no name begins with a dot.
    Ok(folder.join(format!(".last-job-{context}")))
}

/// Remembers a job, for its user alone: whoever knows its ID may have its result. A place that cannot be written costs no
/// more than the ID in full.
pub fn note(context: &str, id: &str) {
    if let Ok(path) = path(context) {
        let _ = replace(&path, id.as_bytes());
    }
}

/// The ID given, else the last one's.
pub fn or_last(given: Option<&str>, context: &str) -> Result<String, Error> {
    if let Some(id) = given {
        return Ok(id.strip_prefix("job/").unwrap_or(id).to_owned());
    }
    let kept = fs::read_to_string(path(context)?).unwrap_or_default();
    match kept.trim() {
        "" => Err(Error::Usage(
            "no job was submitted from this machine yet; give the ID of one, as pipes jobs lists them".into(),
        )),
        id => Ok(id.to_owned()),
    }
}
