//! Processes of a former life of this agent: stages that outlived it are ended before new ones start.
//!
//! Every stage carries `PIPES_NODE=CLUSTER_ID/NODE_ID` in its environment, whatever it forked and whichever session it
//! began. The kernel shows the environment a process was started with to its own user and to root; who changed it since
//! is not found here, but by its cgroup where there is one.

use std::fs;
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// How long killed processes may take to be gone: SIGKILL is prompt unless a disk is in the way.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// How often new ones are looked for: a process may fork as it is killed.
const LOOKS_MAX: usize = 50;

/// Ends every process that carries `node` (CLUSTER_ID/NODE_ID), but this one. Blocks; called before anything is started.
pub fn end(node: &str) {
    let started = Instant::now();
    let mut ended = 0;
    for look in 0..LOOKS_MAX {
        let left = carriers(node);
        if left.is_empty() {
            break;
        }
        if look == 0 {
            ended = left.len();
        }
        for pid in left {
            // SAFETY: kill takes no pointers. A process that is gone already gives ESRCH, which is as good.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        if started.elapsed() > GONE_WITHIN {
            warn!(node, "processes of a former life do not end");
            return;
        }
        std::thread::sleep(GONE_WITHIN / LOOKS_MAX as u32);
    }
    if ended > 0 {
        info!(node, processes = ended, "ended what a former life had left");
    }
}

/// Processes that carry `PIPES_NODE` of this node in the environment they were started with.
fn carriers(node: &str) -> Vec<i32> {
    let wanted = format!("PIPES_NODE={node}");
    let me = std::process::id() as i32;
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let carries = |pid: &i32| {
        // A process of another user, or one that has just gone, shows nothing.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|octet| *octet == 0)
            .any(|variable| variable == wanted.as_bytes())
    };
    let pids = processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != me).filter(carries).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn only_what_carries_the_nodes_name_is_ended() {
        let sleeper = |node: &str| {
            Command::new("sleep")
                .arg("60")
                .env("PIPES_NODE", node)
                .spawn()
                .unwrap()
        };
        let mine = format!("test{}/1", std::process::id());
        let (mut ours, mut neighbour) = (sleeper(&mine), sleeper(&format!("{mine}0")));
        // A zombie of ours shows no environment any more, so that this ends though it is not reaped.
        end(&mine);
        assert_eq!(ours.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert_eq!(neighbour.try_wait().unwrap(), None);
        neighbour.kill().unwrap();
        neighbour.wait().unwrap();
    }
}
