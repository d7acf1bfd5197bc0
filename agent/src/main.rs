//! `pipes-agent --config PATH`: starts the agent of one server and runs it until SIGTERM or SIGINT.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pipes_agent::log_file::LogFile;
use pipes_agent::{agent, config::Config, environment};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// The agent of Pipes: one a server.
#[derive(Parser)]
#[command(name = "pipes-agent", version)]
struct Arguments {
    /// The agent's configuration, agent.toml.
    #[arg(long, value_name = "PATH")]
    config: PathBuf,
}

/// How many arenas the allocator may have: each may keep megabytes, and few threads allocate much here.
const ARENAS_MAX: libc::c_int = 2;

/// Allocations from so many bytes on are the kernel's own mappings and go back to it when they are freed. Said once, it
/// stays: else glibc raises it with each large one that was freed, and an idle agent holds what its start once took.
const MAPPED_FROM: libc::c_int = 256 * 1024;

/// The error and its causes; a cause that the one before it says already is left out.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// Each client and link has a descriptor, and 1024, the usual limit, is for programs that select(2).
fn raise_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a whole rlimit for both calls; on failure the limit stays what it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // SAFETY: no other thread runs yet. Where the allocator does not know the option, nothing changes.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, MAPPED_FROM);
    }
    // Before there is anything that others of this user may look at.
    if let Err(error) = environment::clear() {
        eprintln!("the environment that the agent was started with stays: {error}");
    }
    // SAFETY: it takes a number, and no other thread runs yet. What the agent makes is its user's alone.
    unsafe { libc::umask(0o077) };
    raise_descriptors();
    let asked = std::env::var("PIPES_LOG").ok().and_then(|text| text.parse().ok());
    let usual = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("openraft", LevelFilter::ERROR);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(LogFile::of_stderr())
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(lines.with_filter(asked.unwrap_or(usual)))
        .init();
    let served = Config::read(&arguments.config)
        .map_err(anyhow::Error::from)
        .and_then(agent::run);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}
