//! What replicas of a former life left: set aside in one step, so that no start waits for it, and removed beside.
//!
//! ```text
//! data/replicas/  ->  data/left/01J.../      what is in it is hostile: `pipes_folder`
//! ```
//!
//! What cannot be removed stays there, is said, and is tried again at the next start; it never stops one.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use pipes_folder::{Folder, Progress, Removal};
use tracing::warn;

use crate::lifecycle::{Kind, Lifecycle};

/// Where it is set aside, beside the folder of replicas.
const LEFT: &str = "left";

/// Sets aside what is in `replicas`, and has it removed. Blocks for no longer than a rename.
pub fn clear(replicas: &Path, lifecycle: &Lifecycle) {
    let aside = replicas.with_file_name(LEFT);
    if let Err(error) = set_aside(replicas, &aside) {
        warn!(folder = %replicas.display(), %error, "what replicas left cannot be set aside");
    }
    let all: Vec<_> = fs::read_dir(&aside)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
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

fn set_aside(replicas: &Path, aside: &Path) -> io::Result<()> {
    if fs::symlink_metadata(replicas).is_err() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(aside)?;
    fs::rename(replicas, aside.join(ulid::Ulid::new().to_string()))
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
            let left = data.path().join(LEFT);
            let is_empty = || fs::read_dir(&left).unwrap().next().is_none();
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
