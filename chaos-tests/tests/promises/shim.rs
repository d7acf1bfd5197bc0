//! The shim: small, static, one a replica, and gone with its agent.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::{Cluster, GONE_LIMIT, START_LIMIT};
use pipes_chaos::command::Input;
use pipes_chaos::proc;
use pipes_chaos::wait::wait_until;

/// What the shipped shim may weigh.
const SIZE_MAX: u64 = 2 * 1024 * 1024;
/// ELF's program header that names an interpreter.
const PT_INTERP: u32 = 3;

/// Whether a 64-bit little-endian ELF file asks for an interpreter.
fn has_interpreter(path: &Path) -> Result<bool> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    ensure!(
        bytes.starts_with(b"\x7fELF\x02\x01"),
        "{} is no 64-bit ELF file",
        path.display()
    );
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let table = usize::try_from(u64::from_le_bytes(bytes[32..40].try_into()?))?;
    let (size, count) = (usize::from(half(54)), usize::from(half(56)));
    Ok((0..count).any(|index| {
        let at = table + index * size;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) == PT_INTERP
    }))
}

#[test]
fn the_shim_that_runs_is_static_and_one_a_replica() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "tr"])?;
    let running = cluster
        .run("cat | cat | tr a b | cat")
        .placed(&["n1", "n1", "n1", "n2"])
        .input(Input::Open)
        .start()?;
    cluster.stages_run(4)?;
    let shims = proc::shims(cluster.nodes[0].pid()?);
    // Three stages on n1, of two services: two replicas.
    assert_eq!(
        shims.len(),
        2,
        "{:?}",
        shims
            .iter()
            .map(|pid| proc::command_line(*pid))
            .collect::<Vec<_>>()
    );
    for shim in &shims {
        let executable = PathBuf::from(format!("/proc/{shim}/exe"));
        assert!(
            !has_interpreter(&executable)?,
            "the shim that runs has an interpreter"
        );
        let own = proc::children(*shim);
        assert!(!own.iter().any(|pid| proc::is_shim(*pid)), "a shim under a shim");
        // Nothing of its secret is left where its children could read it.
        let secrets: Vec<_> = proc::environment(*shim)
            .into_iter()
            .filter(|(name, value)| name == "PIPES_TOKEN" && !value.is_empty())
            .collect();
        assert!(secrets.is_empty(), "the shim's environment still shows its token");
    }
    assert!(
        has_interpreter(Path::new("/bin/cat"))?,
        "the check sees no interpreter at all"
    );
    drop(running);
    cluster.finish()
}

#[test]
fn a_second_run_starts_no_replica() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    let shims = |cluster: &Cluster| -> Result<Vec<i32>> {
        let mut all = Vec::new();
        for node in &cluster.nodes {
            all.extend(proc::shims(node.pid()?));
        }
        all.sort_unstable();
        Ok(all)
    };
    let line = || {
        cluster
            .run("cat | cat | cat")
            .placed(&["n1", "n2", "n3"])
            .input(Input::Bytes(b"x".to_vec()))
    };
    line().finish()?.success()?;
    let warm = shims(&cluster)?;
    assert_eq!(warm.len(), 3);
    for _ in 0..5 {
        line().finish()?.success()?;
    }
    assert_eq!(shims(&cluster)?, warm, "warm replicas were not used again");
    let mut fresh = line().options(&["--fresh"]).input(Input::Open).start()?;
    wait_until("fresh replicas run beside the warm ones", START_LIMIT, || {
        shims(&cluster).is_ok_and(|all| all.len() == 6)
    })?;
    drop(fresh.take_stdin());
    fresh.finish()?.success()?;
    wait_until("fresh replicas go with their run", GONE_LIMIT, || {
        shims(&cluster).is_ok_and(|all| all == warm)
    })?;
    cluster.finish()
}

#[test]
fn a_replica_that_was_killed_is_replaced_unseen_where_there_is_no_other_node() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat"])?;
    let line = || cluster.run("cat").input(Input::Bytes(b"x".to_vec()));
    line().finish()?.success()?;
    for _ in 0..5 {
        for shim in proc::shims(cluster.nodes[0].pid()?) {
            proc::signal(shim, libc::SIGKILL)?;
        }
        // At once: the agent may not have missed it yet.
        line().finish()?.success()?;
    }
    cluster.finish()
}

#[test]
fn the_shipped_shim_is_small_and_static() -> Result<()> {
    let folder = std::env::var_os("PIPES_RELEASE_DIR")
        .context("PIPES_RELEASE_DIR names no folder: scripts/test builds the shipped shim and sets it")?;
    // The static one may lie beside the agent under the same name, or carry the build's own name.
    let shim = PathBuf::from(folder).join("pipes-shim");
    let size = std::fs::metadata(&shim)
        .with_context(|| format!("look at {}", shim.display()))?
        .len();
    assert!(size < SIZE_MAX, "{size} bytes");
    assert!(!has_interpreter(&shim)?, "{} has an interpreter", shim.display());
    Ok(())
}

#[test]
fn a_stage_finds_the_surroundings_it_was_promised() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.script(
        "look.sh",
        "#!/bin/sh\nenv | sort\npwd\numask\nls -A\nls -l /proc/self/fd | sed -n 's/.*[0-9] \\([0-9]*\\) -> \\([a-z]*\\):.*/\\1 \\2/p'\n",
    )?;
    let mut command = cluster.pipes(&["run", "-n", "--env", "GIVEN=1", "MINE=2 look.sh"]);
    command.env("SECRET", "no").env("LC_TIME", "C").env("TZ", "UTC");
    let done = pipes_chaos::command::run(command, Input::None)?.success()?;
    let text = done.output();
    let has = |line: &str| text.lines().any(|have| have == line);
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")))
            .unwrap_or_default()
    };
    for line in [
        "GIVEN=1",
        "MINE=2",
        "LC_TIME=C",
        "TZ=UTC",
        "LANG=C",
        "PIPES_STAGE=1",
        "PIPES_SERVICE=look.sh",
        "0022",
    ] {
        assert!(has(line), "{line} is missing in:\n{text}");
    }
    assert!(value("PIPES_RUN").starts_with('r'), "{text}");
    assert!(
        value("PIPES_NODE").starts_with(&format!("{}/", cluster.id)),
        "{text}"
    );
    assert_eq!(value("HOME"), value("TMPDIR"), "{text}");
    assert!(
        !value("HOME").is_empty() && has(value("HOME")),
        "HOME is not the working directory:\n{text}"
    );
    assert!(
        !text.contains("SECRET") && !text.contains("PIPES_TOKEN") && !text.contains("XDG_"),
        "{text}"
    );
    assert!(
        has("0 pipe") && has("1 pipe"),
        "standard descriptors are no pipes:\n{text}"
    );
    assert!(
        !Path::new(value("HOME")).exists(),
        "the scratch directory outlived the run"
    );
    cluster.finish()
}
