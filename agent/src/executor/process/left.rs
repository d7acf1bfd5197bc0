//! What replicas of a former life left: set aside in one step, so that no start waits for it, and removed beside.
//!
//! ```text
//! data/replicas/  ->  data/left-01J.../      what is in it is hostile: `pipes_folder`
//! ```
//!
//! What cannot be removed stays there, is said, and is tried again at the next start; it never stops one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipes_folder::{Folder, Progress, Removal};
use tracing::warn;

use crate::lifecycle::{Kind, Lifecycle};

/// How what is set aside is called, beside the folder of replicas.
const LEFT: &str = "left-";

/// Sets aside what is in `replicas`, and has it removed. Blocks for no longer than a rename.
pub fn clear(replicas: &Path, lifecycle: &Lifecycle) {
    if let Err(error) = set_aside(replicas) {
        warn!(folder = %replicas.display(), %error, "what replicas left cannot be set aside");
    }
    let all = left(replicas);
    if all.is_empty() {
        return;
    }
    let stopping = lifecycle.stopping();
    lifecycle.spawn(Kind::Work, "what replicas left", async move {
        let removed = tokio::task::spawn_blocking(move || {
            for path in all {
                let opened = Folder::open(&path).map(Arc::new);
                let removed = opened.and_then(|folder| remove_until(folder, || stopping.is_cancelled()));
                if let Err(why) = removed {
                    warn!(folder = %path.display(), %why, "what replicas left cannot be removed; it is set aside");
                }
            }
        });
        // It fails only where the runtime is going down.
        let _ = removed.await;
        Ok(())
    });
}

fn set_aside(replicas: &Path) -> io::Result<()> {
    let aside = replicas.with_file_name(format!("{LEFT}{}", ulid::Ulid::new()));
    match fs::rename(replicas, aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

/// All that was set aside, also by former lives.
fn left(replicas: &Path) -> Vec<PathBuf> {
    let beside = replicas.parent().and_then(|parent| fs::read_dir(parent).ok());
    let beside = beside.into_iter().flatten().flatten();
    let left = beside.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(LEFT.as_bytes()));
    left.map(|entry| entry.path()).collect()
}

/// Removes a folder with all that is in it. Blocks.
pub fn remove(folder: Arc<Folder>) -> io::Result<()> {
    remove_until(folder, || false)
}

fn remove_until(folder: Arc<Folder>, is_over: impl Fn() -> bool) -> io::Result<()> {
    let mut removal = Removal::new(folder);
    while !is_over() {
        match removal.step() {
            Progress::Goes => {}
            Progress::Gone => return Ok(()),
            Progress::Stays(why) => return Err(why),
        }
    }
    // The next start goes on with it.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn what_a_former_life_left_is_out_of_the_way_at_once_and_gone_soon() {
        let data = tempfile::tempdir().unwrap();
        let replicas = data.path().join("replicas");
        for _ in 0..2 {
            fs::create_dir_all(replicas.join("x1/x1/1/a/b")).unwrap();
            let lifecycle = Lifecycle::new();
            clear(&replicas, &lifecycle);
            assert!(!replicas.exists());
            let is_empty = || left(&replicas).is_empty();
            let gone = async {
                while !is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
            assert!(lifecycle.stop(Duration::from_secs(10)).await);
        }
    }
}
