//! A control group for each replica: whatever a stage's processes do to hide, one write ends them all. cgroups(7),
//! version 2; `cgroup.kill` needs Linux 5.14.
//!
//! ```text
//! /sys/fs/cgroup/pipes/CLUSTER_ID/NODE_ID/REPLICA        the shim; given to it as PIPES_CGROUP
//!                                        /...             what the shim makes within, for single invocations
//! ```
//!
//! Always: (1) where no cgroup can be written, replicas run without; (2) a folder that a former life of this node left is
//! emptied and removed before a replica starts; (3) only folders of this node are touched. No controller is turned on.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// How long killed processes may take to be gone: SIGKILL is prompt unless a disk is in the way.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// How long they may take to be frozen before: milliseconds, unless one is stuck in a call to the kernel.
const FROZEN_WITHIN: Duration = Duration::from_millis(500);

/// `CLUSTER_ID/NODE_ID`, which no other cluster uses.
const FOLDERS_OWN: usize = 2;

/// How often a folder is made: another node of this machine may remove the cluster's as it stops.
const MAKE_TRIES: usize = 3;

/// Deepest folder within a replica's: the shim's own and one below each. Deeper ones a stage made itself, as root.
const DEPTH_MAX: usize = 8;

/// The control groups of this node.
#[derive(Debug)]
pub struct Cgroups {
    /// `None` where none can be written.
    folder: Option<PathBuf>,
}

impl Cgroups {
    /// Finds where they can be made, and ends what a former life left there. Blocks.
    pub fn open(cluster_id: &str, node: u64) -> Cgroups {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let folder = mount_points(&mounts).into_iter().find_map(|mount| {
            let folder = mount.join("pipes").join(cluster_id).join(node.to_string());
            (0..MAKE_TRIES).find_map(|_| fs::create_dir_all(&folder).ok())?;
            // A kernel without it cannot end a group at once, which is what it is for.
            folder.join("cgroup.kill").exists().then_some(folder)
        });
        match &folder {
            Some(folder) => {
                info!(folder = %folder.display(), "replicas have control groups");
                for left in children(folder) {
                    remove(&left);
                }
            }
            None => info!("no control group can be written: replicas run without"),
        }
        Cgroups { folder }
    }

    /// None at all.
    #[cfg(test)]
    pub fn none() -> Cgroups {
        Cgroups { folder: None }
    }

    /// Makes a replica's group; `None` where there are none.
    pub fn make(&self, replica: &str) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?.join(replica);
        let made = fs::create_dir(&folder);
        if let Err(error) = &made {
            warn!(folder = %folder.display(), "a control group cannot be made, the replica runs without: {error}");
        }
        made.is_ok().then_some(folder)
    }
}

/// In the order of stopping, a node leaves no folder; those that others still use are not empty and stay.
impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            for folder in folder.ancestors().take(FOLDERS_OWN) {
                if fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
    }
}

/// Kills all that is in a group and below, waits until they are gone, and removes it. Blocks.
pub fn remove(folder: &Path) {
    let removed = kill(folder).and_then(|()| wait_for(folder, "populated 0", EMPTY_WITHIN));
    match removed.and_then(|()| remove_tree(folder, 0)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(folder = %folder.display(), "a control group is left behind: {error}");
        }
        _ => {}
    }
}

/// Sends SIGKILL to all that is in a group and below. They are frozen first: killed one after another, one that still runs
/// would take the close of a dead one's pipe for the end of its input.
pub fn kill(folder: &Path) -> io::Result<()> {
    let frozen = fs::write(folder.join("cgroup.freeze"), "1");
    // What cannot be frozen is killed all the same.
    let _ = frozen.and_then(|()| wait_for(folder, "frozen 1", FROZEN_WITHIN));
    fs::write(folder.join("cgroup.kill"), "1")
}

/// Waits until `cgroup.events` has the line `state`.
fn wait_for(folder: &Path, state: &str, limit: Duration) -> io::Result<()> {
    use std::io::{Read, Seek};
    let deadline = Instant::now() + limit;
    let mut events = fs::File::open(folder.join("cgroup.events"))?;
    let mut text = String::new();
    loop {
        text.clear();
        events.rewind()?;
        events.read_to_string(&mut text)?;
        if text.lines().any(|line| line == state) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("not {state} in {limit:?}"),
            ));
        }
        // The kernel reports a change of this file as an exceptional condition.
        let mut poll = libc::pollfd {
            fd: events.as_raw_fd(),
            events: libc::POLLPRI,
            revents: 0,
        };
        // SAFETY: one entry is passed, whose descriptor is open; poll writes nothing but it.
        unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as libc::c_int + 1) };
    }
}

/// Folders can only be removed from the innermost outwards.
fn remove_tree(folder: &Path, depth: usize) -> io::Result<()> {
    if depth < DEPTH_MAX {
        for child in children(folder) {
            remove_tree(&child, depth + 1)?;
        }
    }
    fs::remove_dir(folder)
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Where version 2 is mounted, from `/proc/self/mountinfo` (proc(5)): the fifth field, where the file system's type, after
/// the field `-`, is `cgroup2`.
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    let mount_point = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let is_version_2 = after.split(' ').next() == Some("cgroup2");
        let path = before.split(' ').nth(4).filter(|_| is_version_2)?;
        Some(PathBuf::from(path.replace("\\040", " ")))
    };
    mountinfo.lines().filter_map(mount_point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn mounts_of_version_2_are_found() {
        let mountinfo = "24 18 0:22 / /proc rw - proc proc rw\n\
            30 23 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
            31 23 0:27 / /sys/fs/cgroup/cpu rw shared:10 - cgroup cgroup rw,cpu\n\
            32 23 0:28 / /mnt/a\\040b rw - cgroup2 none rw\n";
        assert_eq!(
            mount_points(mountinfo),
            [Path::new("/sys/fs/cgroup/unified"), Path::new("/mnt/a b")]
        );
        assert!(mount_points("").is_empty());
    }

    #[test]
    fn a_group_is_removed_with_all_that_is_in_it() {
        let id = format!("test-{}", std::process::id());
        let cgroups = Cgroups::open(&id, 1);
        let Some(node) = cgroups.folder.clone() else {
            return;
        };
        let folder = cgroups.make("a").unwrap();
        let inner = folder.join("inner");
        fs::create_dir(&inner).unwrap();
        // It forks once it is in the group, so that what it forks is in it too.
        let script = "read word; trap '' TERM; sleep 1000 & wait";
        let mut sleeper = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        fs::write(inner.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        sleeper.stdin.take().unwrap().write_all(b"go\n").unwrap();
        // A former life's folder is found by the next one's start.
        let again = Cgroups::open(&id, 1);
        assert!(!folder.exists());
        assert!(!sleeper.wait().unwrap().success());
        assert!(again.make("a").is_some(), "the name is free again");
        remove(&node.join("a"));
        drop(again);
        assert!(
            !node.parent().unwrap().exists(),
            "nothing is left of a node that stops"
        );
    }

    #[test]
    fn without_a_group_nothing_is_made() {
        assert_eq!(Cgroups::none().make("a"), None);
    }
}
