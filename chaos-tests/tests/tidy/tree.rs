//! The tree as text: every file by its path from the root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files by their path from the root, and what they say.
pub type Files = BTreeMap<String, String>;

/// Where the workspace is.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// Every text file.
pub fn all() -> Files {
    let mut files = Files::new();
    collect(&root(), &root(), &mut files);
    assert!(files.len() > 50, "only {} files were found", files.len());
    files
}

/// Every Rust file.
pub fn rust() -> Files {
    let mut files = all();
    files.retain(|path, _| path.ends_with(".rs"));
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Files) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        // What is built, and Git's own: a folder, or in a second work tree a file.
        if name == "target" || name == ".git" {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let from_root = path.strip_prefix(root).unwrap_or(&path);
            files.insert(from_root.to_string_lossy().into_owned(), text);
        }
    }
}

/// Fails unless nothing was found.
pub fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}
