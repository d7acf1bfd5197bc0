//! What `/proc` says about the processes of a cluster, and signals to them.
//!
//! A stage's process is known by its environment, which it cannot lose by forking or calling setsid:
//! `PIPES_RUN=r...` and `PIPES_NODE=CLUSTER_ID/NODE_ID`. An agent is known by its command line, which names a
//! configuration file under the cluster's folder; a shim by its parent and its executable.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// How long processes may take to be gone after whatever ended them (interface.md: 5 s).
pub const GONE_LIMIT: Duration = Duration::from_secs(5);

/// Sends a signal to one process.
pub fn signal(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill(2) takes plain numbers and touches no memory of ours.
    if unsafe { libc::kill(pid, signal) } == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error()).with_context(|| format!("send signal {signal} to {pid}"))
}

/// Every process id there is.
pub fn pids() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Whether the process is there and not merely waiting to be reaped.
pub fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// Whether nothing of a killed process is left: its first thread may be dead while others still end a system call.
pub fn is_gone(pid: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    !is_alive(pid) && threads <= 1
}

/// The state letter of `/proc/PID/stat`.
pub fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// The parent's process id.
pub fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The process group: signals of a terminal go to one.
pub fn group(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

/// The environment a process was started with.
pub fn environment(pid: i32) -> Vec<(String, String)> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|entry| {
            let entry = String::from_utf8_lossy(entry);
            entry
                .split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The command line.
pub fn command_line(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim()
        .to_owned()
}

/// The executable.
pub fn executable(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The greatest memory the process ever had resident, in bytes.
pub fn peak_memory(pid: i32) -> Result<u64> {
    memory(pid, "VmHWM:")
}

/// The memory the process has resident, in bytes.
pub fn resident_memory(pid: i32) -> Result<u64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: i32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read a process's status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .with_context(|| format!("{field} in {status}"))?;
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .context("a number of KiB")?
        .parse()?;
    Ok(kib * 1024)
}

/// Processor time used so far, in clock ticks (100 a second).
pub fn processor_ticks(pid: i32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("a stat line")?
        .1
        .split_whitespace()
        .collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Ok(number(11) + number(12))
}

/// Bytes the process has caused to be written to disk.
pub fn written_bytes(pid: i32) -> Result<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = io
        .lines()
        .find(|line| line.starts_with("write_bytes:"))
        .context("write_bytes")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

/// The stages' processes of a cluster, or of one of its runs.
pub fn stages(cluster_id: &str, run: Option<&str>) -> Vec<i32> {
    let node = format!("{cluster_id}/");
    pids()
        .into_iter()
        .filter(|pid| is_alive(*pid))
        .filter(|pid| {
            let environment = environment(*pid);
            let value = |name: &str| {
                environment
                    .iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.as_str())
            };
            let ours = value("PIPES_NODE").is_some_and(|value| value.starts_with(&node));
            ours && value("PIPES_RUN").is_some_and(|id| run.is_none_or(|run| run == id))
        })
        .collect()
}

/// The stages' processes of a job.
pub fn of_job(job: &str) -> Vec<i32> {
    let is_of_job = |pid: &i32| {
        let environment = environment(*pid);
        environment
            .iter()
            .any(|(name, value)| name == "PIPES_JOB" && value == job)
    };
    pids()
        .into_iter()
        .filter(|pid| is_alive(*pid))
        .filter(is_of_job)
        .collect()
}

/// The children of a process.
pub fn children(of: i32) -> Vec<i32> {
    pids()
        .into_iter()
        .filter(|pid| parent(*pid) == Some(of) && is_alive(*pid))
        .collect()
}

/// The shims under an agent.
pub fn shims(agent: i32) -> Vec<i32> {
    children(agent).into_iter().filter(|pid| is_shim(*pid)).collect()
}

/// Whether the process is a shim, by its executable's name.
pub fn is_shim(pid: i32) -> bool {
    let name = executable(pid).and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    name.is_some_and(|name| name.starts_with("pipes-shim"))
}

/// Processes whose command line, environment or working directory names this folder.
pub fn mentioning(folder: &str) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    pids()
        .into_iter()
        .filter(|pid| *pid != own && is_alive(*pid))
        .filter(|pid| {
            let directory = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            command_line(*pid).contains(folder)
                || directory.starts_with(folder)
                || environment(*pid).iter().any(|(_, value)| value.contains(folder))
        })
        .collect()
}
