//! A copy of a state, to be read beside it.

use std::path::Path;

use super::super::block_files;
use super::Sled;
use crate::Error;

impl Sled {
    /// Octets of sled's own files.
    pub(in crate::state) fn size(&self) -> Result<u64, Error> {
        self.db.size_on_disk().map_err(|error| self.io_error(&error))
    }

    /// Copies sled's files to the folder `to`, and names the blocks' there too.
    pub(in crate::state) fn copy(&self, to: &Path) -> Result<(), Error> {
        copy_files(&self.dir, to).map_err(|error| crate::format::disk(to, &error))
    }
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        let name = file.file_name();
        if file.file_type()?.is_dir() {
            copy_files(&from.join(&name), &to.join(&name))?;
        } else if block_files::number(Path::new(&name)).is_some() {
            // What was written there never changes, and is held nowhere else.
            std::fs::hard_link(from.join(&name), to.join(&name))?;
        } else {
            std::fs::copy(from.join(&name), to.join(&name))?;
        }
    }
    Ok(())
}
