//! What a stage leaves behind, and who sits on a dead agent's address: neither is felt.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::{Cluster, START_LIMIT};
use pipes_chaos::command::{self, Input};
use pipes_chaos::proc;
use pipes_chaos::wait::wait_until;
use pipes_chaos::wamp::{Address, Session};

/// Nests folders deeper than a stack goes, and names longer than a path can be.
const NEST: &str = "#!/usr/bin/env python3
import os, sys, time
def nest(name, depth):
    top = os.open('.', os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name)
        os.chdir(name)
    os.fchdir(top)
nest('d', 20000)
nest('n' * 255, 100)
os.mkfifo('fifo')
os.symlink('/', 'root')
print('nested', flush=True)
if len(sys.argv) > 1:
    time.sleep(1000)
";

/// All that is below is to be gone within so long.
const GONE_WITHIN: Duration = Duration::from_secs(60);

fn works(cluster: &Cluster) -> Result<()> {
    let done = cluster.run("cat").input(Input::Bytes(b"as before\n".to_vec()));
    assert_eq!(done.finish()?.success()?.output(), "as before\n");
    Ok(())
}

#[test]
fn what_a_stage_nests_goes_with_its_run_and_stops_no_agent() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat"])?;
    cluster.script("nest.py", NEST)?;
    let pid = cluster.nodes[0].pid()?;
    let done = cluster.run("nest.py").options(&["-n"]).finish()?.success()?;
    assert_eq!(done.output(), "nested\n");
    works(&cluster)?;
    cluster.call(&["cluster", "set", "warm=0s"])?;
    let replicas = cluster.nodes[0].folder.join("replicas");
    wait_until("the replicas' folders are gone", GONE_WITHIN, || {
        std::fs::read_dir(&replicas).is_ok_and(|mut entries| entries.next().is_none())
    })?;
    assert_eq!(cluster.nodes[0].pid()?, pid, "the agent was started anew");
    cluster.finish()
}

#[test]
fn an_agent_starts_with_what_a_stage_had_nested_and_its_removal_leaves_nothing() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat"])?;
    cluster.script("nest.py", NEST)?;
    let running = cluster.run("nest.py stay").options(&["-n"]).start()?;
    cluster.stages_run(1)?;
    let replicas = cluster.nodes[0].folder.join("replicas");
    let is_nested = || {
        let all = std::fs::read_dir(&replicas).into_iter().flatten().flatten();
        let last = all.map(|replica| replica.path().join(replica.file_name()).join("1/root"));
        last.into_iter().any(|path| path.symlink_metadata().is_ok())
    };
    wait_until("it has nested", GONE_WITHIN, is_nested)?;
    // The agent, and the shims that would clear up.
    cluster.kill_all()?;
    for pid in cluster.processes() {
        let _ = proc::signal(pid, libc::SIGKILL);
    }
    let _ = running.finish_within(GONE_WITHIN);
    cluster.start_again()?;
    works(&cluster)?;
    let folder = cluster.nodes[0].folder.clone();
    let removed = command::start(cluster.pipes(&["cluster", "rm", "local", "--yes"]), Input::None)?;
    removed.finish_within(GONE_WITHIN)?.success()?;
    ensure!(!folder.exists(), "{} is left", folder.display());
    cluster.finish()
}

#[test]
fn nobody_proves_himself_to_a_stranger_on_a_dead_agents_address() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    let token = cluster.call(&["token", "create", "robot"])?;
    cluster.kill(0)?;
    let address = cluster.nodes[0].wamp();
    let stranger = TcpListener::bind(&address).with_context(|| address.clone())?;
    stranger.set_nonblocking(true)?;
    cluster.call(&["node", "ls"])?;
    works(&cluster)?;
    // Asked for by name, it is said not to run.
    let mut alone = cluster.pipes(&["node", "ls"]);
    alone.env("PIPES_AGENT", &address);
    let refused = command::run(alone, Input::None)?;
    ensure!(
        refused.code() == 1 && refused.errors().contains(&address),
        "{}",
        refused.errors()
    );
    let met = stranger.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(met, Err(ErrorKind::WouldBlock), "somebody came to the stranger");
    drop(stranger);
    // What could be passed on from there opens nothing: proofs are taken where no stranger can be.
    let tcp = Address::Tcp(cluster.nodes[1].wamp());
    let joined = Session::join(&tcp, "pipes", "ticket", Some(("robot", token.trim())));
    ensure!(joined.is_err(), "a proof over plain TCP was taken");
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    cluster.finish()
}

/// The cluster's context as a user elsewhere has it, who cannot reach the agents' own sockets.
fn far(cluster: &Cluster) -> Result<PathBuf> {
    let contexts = cluster.home().join("c/pipes/contexts");
    let text = std::fs::read_to_string(contexts.join("local.json"))?;
    let mut context: serde_json::Value = serde_json::from_str(&text)?;
    context.as_object_mut().context("an object")?.remove("local");
    let path = cluster.file("far.json");
    std::fs::write(&path, context.to_string())?;
    Ok(path)
}

#[test]
fn a_cluster_elsewhere_is_reached_over_tls_and_a_stranger_at_an_address_is_named_and_passed_over()
-> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    let context = far(&cluster)?;
    let from_afar = |arguments: &[&str]| {
        let mut command = cluster.pipes(arguments);
        command.env("PIPES_CONTEXT", &context);
        command
    };
    let bytes: Vec<u8> = (0..3_000_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let through = command::run(from_afar(&["run", "cat | cat"]), Input::Bytes(bytes.clone()))?.success()?;
    ensure!(through.stdout == bytes, "bytes changed on their way over TLS");

    cluster.kill(0)?;
    let address = cluster.nodes[0].wamp();
    let stranger = TcpListener::bind(&address).with_context(|| address.clone())?;
    let said = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
        let (mut stream, _) = stranger.accept()?;
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n")?;
        let mut said = Vec::new();
        // However the client goes, what it said was read.
        let _ = stream.read_to_end(&mut said);
        Ok(said)
    });
    let listed = command::run(from_afar(&["node", "ls"]), Input::None)?.success()?;
    ensure!(
        listed.errors().contains(&format!("at {address} is a stranger")),
        "{}",
        listed.errors()
    );
    let said = said
        .join()
        .map_err(|_| anyhow::anyhow!("the stranger panicked"))??;
    let operator = b"cryptosign";
    ensure!(
        !said.windows(operator.len()).any(|part| part == operator),
        "something was proved to it"
    );
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    cluster.finish()
}
