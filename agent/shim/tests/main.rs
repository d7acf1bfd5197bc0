//! The shim, driven as its agent drives it: over a unix socket, by messages.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

mod agent;
mod breaks;
mod bytes;
mod ends;
mod environment;
mod files;
mod hop;
mod stage;

use std::path::Path;
use std::process::Command;

#[test]
fn the_shim_needs_no_interpreter_and_no_library() {
    let shim = env!("CARGO_BIN_EXE_pipes-shim");
    let bytes = std::fs::read(shim).unwrap();
    assert_eq!(&bytes[..5], b"\x7fELF\x02");
    let u16_at = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (table, size, count) = (u64_at(32) as usize, u16_at(54) as usize, u16_at(56) as usize);
    const PT_INTERP: u32 = 3;
    for index in 0..count {
        assert_ne!(
            u32_at(table + index * size),
            PT_INTERP,
            "{shim} has an interpreter"
        );
    }
    if !cfg!(debug_assertions) {
        assert!(bytes.len() < 2_000_000, "{} bytes", bytes.len());
    }
}

#[test]
fn without_an_agent_it_says_what_is_missing() {
    let output = Command::new(env!("CARGO_BIN_EXE_pipes-shim"))
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("PIPES_TOKEN is not set"));
}

/// Waits until something is so, looking again and again; fails after 10 s.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed().as_secs() < 10, "not within 10 s: {what}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Processes, not dead ones, whose environment holds `variable`.
fn carrying(variable: &str) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|pair| pair == variable.as_bytes())
    })
    .collect()
}

/// Whether a process is there and not dead.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    Path::new(&format!("/proc/{pid}")).exists() && !stat.contains(") Z ")
}
