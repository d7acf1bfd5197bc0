//! What a power loss leaves of the names in folders.
//!
//! A folder that was not synced has some of its latest changes undone, a rename as one. The tree is built anew out of the
//! same files, beside the old one, and takes its place.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Name, Names};

/// Undoes these changes of names, folder by folder, in the tree at `root`.
pub(super) fn rewind(
    root: &Path,
    places: &HashMap<u64, PathBuf>,
    lost: &HashMap<u64, Vec<Names>>,
) -> Result<()> {
    let beside = root.with_extension("rewound");
    let inode = root.metadata()?.ino();
    Tree { places, lost }.build(inode, &beside)?;
    std::fs::remove_dir_all(root)?;
    std::fs::rename(&beside, root).with_context(|| format!("put back {}", root.display()))
}

struct Tree<'a> {
    places: &'a HashMap<u64, PathBuf>,
    lost: &'a HashMap<u64, Vec<Names>>,
}

impl Tree<'_> {
    /// Makes a folder as it was, with all below it.
    fn build(&self, inode: u64, path: &Path) -> Result<()> {
        let now = &self.places[&inode];
        std::fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
        std::fs::set_permissions(path, now.metadata()?.permissions())?;
        for (name, inode) in self.entries(inode)? {
            let to = path.join(&name);
            let from = self.places.get(&inode);
            let from = from.with_context(|| format!("{} was not kept", to.display()))?;
            if from.symlink_metadata()?.is_dir() {
                self.build(inode, &to)?;
            } else {
                std::fs::hard_link(from, &to).with_context(|| format!("put back {}", to.display()))?;
            }
        }
        Ok(())
    }

    /// What a folder's names stand for, the lost changes undone.
    fn entries(&self, inode: u64) -> Result<BTreeMap<OsString, u64>> {
        let mut entries = BTreeMap::new();
        for entry in std::fs::read_dir(&self.places[&inode])? {
            let entry = entry?;
            entries.insert(entry.file_name(), entry.path().symlink_metadata()?.ino());
        }
        for (first, second) in self.lost.get(&inode).into_iter().flatten().rev() {
            for Name { name, before, .. } in second.iter().chain([first]) {
                let name = OsStr::from_bytes(name).to_owned();
                match before {
                    0 => entries.remove(&name),
                    inode => entries.insert(name, *inode),
                };
            }
        }
        Ok(entries)
    }
}
