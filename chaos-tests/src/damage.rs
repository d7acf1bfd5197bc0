//! A node's files, and what can happen to them while its agent is dead, or behind its back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The segments of a node's log.
pub fn segments(node: &Path) -> Result<Vec<PathBuf>> {
    files(&node.join("raft/log"), |name| name.ends_with(".seg"))
}

/// The folder of its state.
pub fn state(node: &Path) -> Result<PathBuf> {
    last(files(&node.join("raft"), |name| {
        name.strip_prefix("state.")
            .is_some_and(|number| number.parse::<u32>().is_ok())
    })?)
}

/// Its blobs.
pub fn blobs(node: &Path) -> Result<Vec<PathBuf>> {
    files(&node.join("blobs"), |name| !name.starts_with('.'))
}

/// Files of a folder, in the order of their names.
fn files(folder: &Path, is_one: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for file in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let file = file?;
        if is_one(&file.file_name().to_string_lossy()) {
            paths.push(file.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The last of some files, of which there is one at least.
pub fn last(mut paths: Vec<PathBuf>) -> Result<PathBuf> {
    paths.pop().context("no such file")
}

/// Where the octets that were written end: behind them there is room.
pub fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|octet| *octet != 0).map_or(0, |at| at + 1)
}

/// Where `what` lies in `bytes`.
pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Changes one octet, in place.
pub fn flip(path: &Path, at: impl FnOnce(usize) -> usize) -> Result<()> {
    use std::os::unix::fs::{FileExt, PermissionsExt};
    let bytes = fs::read(path)?;
    let at = at(written(&bytes));
    let mode = fs::metadata(path)?.permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&[bytes[at] ^ 0x10], at as u64)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Cuts a file to its half.
pub fn cut(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    let file = fs::OpenOptions::new().write(true).open(path)?;
    Ok(file.set_len(file.metadata()?.len() / 2)?)
}

/// Changes a file, and puts its times back.
pub fn put_back_times(path: &Path, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = fs::metadata(path)?;
    change()?;
    let times = fs::FileTimes::new()
        .set_accessed(before.accessed()?)
        .set_modified(before.modified()?);
    Ok(fs::File::open(path)?.set_times(times)?)
}
