//! A cluster of one test: started as a user starts one, damaged as machines are, and always ended.
//!
//! ```text
//! /tmp/pc-RANDOM/              one folder a cluster, gone with it
//!   s/pipes/local/n1/...       XDG_STATE_HOME: the nodes' folders (agent.pid, agent.log, agent.sock, ...)
//!   c/pipes/contexts/...       XDG_CONFIG_HOME: the context that `init` made
//!   w/                         what the test itself writes (scripts, inputs, reports)
//!   j/n1/...                   what n1 has not synced, where power may be lost
//!   b/pipes-agent              the agent with a clock that can be stepped, where that is wanted
//! ```
//!
//! Always: (1) nothing outside the folder is touched, and its network is its own as long as it lives, so clusters of
//! several tests do not meet; (2) on drop every process that names the folder or the cluster's id is ended by its id, and
//! if one had to be ended after `pipes cluster stop`, the test fails; (3) a failing test shows the end of each agent's log.

mod network;
mod node;
mod run;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::clock::Clocks;
use crate::command::{self, Finished, Input};
use crate::fault::Cut;
use crate::power_loss::Recording;
pub use crate::proc::GONE_LIMIT;
use crate::wait::{wait_for, wait_until};
use crate::{proc, store};
pub use node::{MESH_PORT, Node, WAMP_PORT};
pub use run::Run;

/// How long a cluster may take to be started, or an agent to be back: a start is 1 to 2 s, an election 1 s more.
pub const START_LIMIT: Duration = Duration::from_secs(40);
/// How long an ordered stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Where the binaries under test lie: `PIPES_BIN_DIR`, else the profile's folder of this very test.
pub fn binaries() -> PathBuf {
    if let Some(folder) = std::env::var_os("PIPES_BIN_DIR") {
        return PathBuf::from(folder);
    }
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    // A test lies in PROFILE/deps/, a binary of this crate in PROFILE/ itself.
    if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder).to_owned()
    } else {
        folder.to_owned()
    }
}

/// What `pipes cluster status` says.
#[derive(Clone, Debug)]
pub struct Status {
    /// The leader's name.
    pub leader: String,
    /// The Raft term.
    pub term: i64,
    /// The whole object.
    pub whole: Value,
}

/// What agents are started with.
#[derive(Clone, Copy, Debug)]
enum Surroundings {
    /// Nothing special.
    Plain,
    /// A library that records what they write.
    Recorded,
    /// A library that gives them the time.
    Clocked,
}

/// A running cluster.
pub struct Cluster {
    home: tempfile::TempDir,
    /// Its agents' disks, where they are recorded.
    pub recording: Option<Recording>,
    /// Its name.
    pub name: String,
    /// Its id, `PIPES_NODE`'s first half.
    pub id: String,
    /// Its nodes, in order.
    pub nodes: Vec<Node>,
    /// Where the binaries it runs lie.
    binaries: PathBuf,
    /// The agents' clocks, where they can be stepped.
    clocks: Option<Clocks>,
    /// Kept from other tests' clusters.
    _network: Option<UnixListener>,
    checked: bool,
}

impl Cluster {
    /// Starts a cluster of `size` agents.
    pub fn start(size: usize) -> Result<Cluster> {
        Cluster::start_with(size, &[])
    }

    /// The same, with more options for `init`.
    pub fn start_with(size: usize, options: &[&str]) -> Result<Cluster> {
        Cluster::begin(size, options, Surroundings::Plain)
    }

    /// A cluster whose agents may lose their power.
    pub fn start_recorded(size: usize, options: &[&str]) -> Result<Cluster> {
        Cluster::begin(size, options, Surroundings::Recorded)
    }

    /// A cluster whose agents' clocks may be stepped.
    pub fn start_clocked(size: usize, options: &[&str]) -> Result<Cluster> {
        Cluster::begin(size, options, Surroundings::Clocked)
    }

    fn begin(size: usize, options: &[&str], surroundings: Surroundings) -> Result<Cluster> {
        // The path is short because a socket's path may have 107 bytes at most.
        let home = tempfile::Builder::new()
            .prefix("pc-")
            .tempdir_in("/tmp")
            .context("make a folder in /tmp")?;
        for folder in ["s", "c", "w"] {
            std::fs::create_dir(home.path().join(folder))?;
        }
        let (nodes, journals) = (home.path().join("s/pipes/local"), home.path().join("j"));
        let clocks = match surroundings {
            Surroundings::Clocked => Some(Clocks::new(&binaries(), &home.path().join("b"))?),
            _ => None,
        };
        let recording = match surroundings {
            Surroundings::Recorded => Some(Recording::new(&binaries(), nodes, journals)?),
            _ => None,
        };
        let mut cluster = Cluster {
            recording,
            binaries: clocks.as_ref().map_or_else(binaries, |clocks| clocks.binaries()),
            clocks,
            home,
            name: "local".into(),
            id: String::new(),
            nodes: Vec::new(),
            _network: None,
            checked: false,
        };
        let mut command = cluster.pipes(&["init", "--local", &size.to_string()]);
        command.args(options);
        command::start(command, Input::None)?
            .finish_within(START_LIMIT)?
            .success()
            .context("pipes init --local")?;
        for number in 1..=size {
            let node = cluster.find_node(&format!("n{number}"))?;
            cluster.nodes.push(node);
        }
        cluster.id = cluster.setting(0, "cluster_id")?;
        cluster._network = network::hold(&cluster.nodes[0].address)?;
        Ok(cluster)
    }

    fn find_node(&self, name: &str) -> Result<Node> {
        let folder = self.home.path().join("s/pipes").join(&self.name).join(name);
        let mut node = Node {
            name: name.to_owned(),
            address: String::new(),
            folder,
        };
        node.address = node.setting("address")?;
        Ok(node)
    }

    /// A word of a node's configuration.
    pub fn setting(&self, node: usize, key: &str) -> Result<String> {
        self.nodes[node].setting(key)
    }

    /// The cluster's own folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A path in the folder for the test's own files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join("w").join(name)
    }

    /// Writes a file of the test and gives its path.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.file(name);
        std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Writes an executable with this text and builds it as a service.
    pub fn script(&self, name: &str, text: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.write(name, text.as_bytes())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        self.call(&["build", &path.to_string_lossy()])?;
        Ok(())
    }

    /// The CLI, in this cluster's surroundings.
    pub fn pipes(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binaries.join("pipes"));
        command.args(arguments).current_dir(self.home.path().join("w"));
        command.env("XDG_STATE_HOME", self.home.path().join("s"));
        command.env("XDG_CONFIG_HOME", self.home.path().join("c"));
        command.env_remove("PIPES_AGENT").env_remove("PIPES_CONTEXT");
        let recording = self.recording.iter();
        command.envs(recording.flat_map(|recording| recording.environment(Some("pipes-agent"))));
        // One language, so that tools sort and classify alike here and in `sh`.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name == "LANG" || name == "TZ" || name.starts_with("LC_") {
                command.env_remove(name);
            }
        }
        command.env("LANG", "C");
        command
    }

    /// A command of the CLI that must succeed; gives its stdout.
    pub fn call(&self, arguments: &[&str]) -> Result<String> {
        let done = command::run(self.pipes(arguments), Input::None)?;
        Ok(done
            .success()
            .with_context(|| format!("pipes {}", arguments.join(" ")))?
            .output())
    }

    /// A command of the CLI, however it ends.
    pub fn attempt(&self, arguments: &[&str]) -> Result<Finished> {
        command::run(self.pipes(arguments), Input::None)
    }

    /// A listing as JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.call(&[arguments, &["--format", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("JSON of pipes {}: {text}", arguments.join(" ")))
    }

    /// Builds services out of programs on PATH.
    pub fn build(&self, programs: &[&str]) -> Result<()> {
        let mut arguments = vec!["build".to_owned()];
        for program in programs {
            // By path: NAME alone would take a file of that name in the working directory first.
            arguments.push(command::tool(program)?.to_string_lossy().into_owned());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.call(&arguments)?;
        Ok(())
    }

    /// A line to be run.
    pub fn run(&self, line: &str) -> Run<'_> {
        Run::new(self, line)
    }

    /// What `pipes cluster status` says.
    pub fn status(&self) -> Result<Status> {
        let whole = self.json(&["cluster", "status"])?;
        let leader = match &whole["leader"] {
            Value::String(name) => name.clone(),
            other => bail!("no leader: {other} in {whole}"),
        };
        Ok(Status {
            leader,
            term: whole["term"].as_i64().context("a term")?,
            whole,
        })
    }

    /// The index of the leader among the nodes.
    pub fn leader(&self) -> Result<usize> {
        let name = wait_for("a leader", START_LIMIT, || Ok(self.status()?.leader))?;
        self.nodes
            .iter()
            .position(|node| node.name == name)
            .with_context(|| format!("leader {name} is no node"))
    }

    /// Ends an agent at once.
    pub fn kill(&self, node: usize) -> Result<()> {
        self.nodes[node].pid()?;
        self.kill_some(&[node])
    }

    /// Ends all agents at once.
    pub fn kill_all(&self) -> Result<()> {
        self.kill_some(&(0..self.nodes.len()).collect::<Vec<_>>())
    }

    /// Ends these agents at once.
    pub fn kill_some(&self, nodes: &[usize]) -> Result<()> {
        let pids: Vec<i32> = nodes
            .iter()
            .filter_map(|node| self.nodes[*node].pid().ok())
            .collect();
        for pid in &pids {
            let _ = proc::signal(*pid, libc::SIGKILL);
        }
        wait_until("killed agents are gone", GONE_LIMIT, || {
            pids.iter().all(|pid| proc::is_gone(*pid))
        })?;
        Ok(())
    }

    /// Stops an agent's clock: it neither answers nor dies.
    pub fn pause(&self, node: usize) -> Result<()> {
        proc::signal(self.nodes[node].pid()?, libc::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self, node: usize) -> Result<()> {
        proc::signal(self.nodes[node].pid()?, libc::SIGCONT)
    }

    /// Starts every agent that is down, as a user does.
    pub fn start_again(&self) -> Result<()> {
        let command = self.pipes(&["cluster", "start"]);
        command::start(command, Input::None)?
            .finish_within(START_LIMIT)?
            .success()
            .context("pipes cluster start")?;
        Ok(())
    }

    /// Waits until every node is `up` in `pipes node ls`.
    pub fn all_up(&self, limit: Duration) -> Result<()> {
        wait_for("all nodes up", limit, || {
            let nodes = self.json(&["node", "ls"])?;
            let up = nodes
                .as_array()
                .context("an array")?
                .iter()
                .filter(|node| node["state"] == "up")
                .count();
            if up == self.nodes.len() {
                Ok(())
            } else {
                bail!("{nodes}")
            }
        })
    }

    /// Ends all agents, adds lines to the end of each one's `agent.toml`, and starts them again.
    pub fn configure(&self, lines: &str) -> Result<()> {
        self.kill_all()?;
        for node in &self.nodes {
            node.configure(lines)?;
        }
        self.start_again()?;
        self.all_up(START_LIMIT)
    }

    /// Sets an agent's wall clock so many seconds before or after this machine's; its monotonic one goes on.
    pub fn step_clock(&self, node: usize, seconds: i64) -> Result<()> {
        let clocks = self.clocks.as_ref().context("clocks that can be stepped")?;
        clocks.step(&self.nodes[node].folder, seconds)
    }

    /// Cuts the link between two agents.
    pub fn cut(&self, one: usize, other: usize) -> Result<Cut> {
        Cut::between(&self.nodes[one].address, &self.nodes[other].address)
    }

    /// Has the second agent hear nothing of the first.
    pub fn cut_one_way(&self, from: usize, to: usize) -> Result<Cut> {
        Cut::one_way(&self.nodes[from].address, &self.nodes[to].address)
    }

    /// Cuts all links of an agent.
    pub fn isolate(&self, node: usize) -> Result<Cut> {
        let others = self.nodes.iter().map(|other| other.address.as_str());
        let others: Vec<&str> = others
            .filter(|other| *other != self.nodes[node].address)
            .collect();
        Cut::around(&self.nodes[node].address, &others)
    }

    /// Waits until no process of any stage is left; fails naming those that are.
    pub fn no_stages(&self, limit: Duration) -> Result<Duration> {
        wait_until("no stage is left", limit, || {
            proc::stages(&self.id, None).is_empty()
        })
        .map_err(|error| {
            let left: Vec<String> = proc::stages(&self.id, None)
                .into_iter()
                .map(|pid| {
                    format!(
                        "{pid}: {} (child of {:?})",
                        proc::command_line(pid),
                        proc::parent(pid)
                    )
                })
                .collect();
            error.context(format!("stages left over: {left:?}"))
        })
    }

    /// Waits until so many stage processes run.
    pub fn stages_run(&self, count: usize) -> Result<Duration> {
        wait_until("the stages run", Duration::from_secs(15), || {
            proc::stages(&self.id, None).len() >= count
        })
    }

    /// A client of the store at one node.
    pub fn store(&self, node: usize) -> Result<store::Client> {
        Ok(store::Client::new(self.nodes[node].operator()?))
    }

    /// Stops the cluster in order and checks that nothing of it is left: what drop does, with an error to see.
    pub fn finish(mut self) -> Result<()> {
        self.checked = true;
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        for node in &self.nodes {
            if let Ok(pid) = node.pid() {
                let _ = proc::signal(pid, libc::SIGCONT);
            }
        }
        let stop = command::start(self.pipes(&["cluster", "stop"]), Input::None)
            .and_then(|running| running.finish_within(STOP_LIMIT))
            .and_then(Finished::success);
        let begun = Instant::now();
        let left = loop {
            let left = self.processes();
            if left.is_empty() || begun.elapsed() > GONE_LIMIT {
                break left;
            }
            crate::wait::let_pass(Duration::from_millis(20));
        };
        let named: Vec<String> = left
            .iter()
            .map(|pid| format!("{pid} {}", proc::command_line(*pid)))
            .collect();
        for pid in left {
            let _ = proc::signal(pid, libc::SIGKILL);
        }
        if !named.is_empty() {
            bail!(
                "processes left over after the cluster's stop ({:?}): {named:?}",
                stop.map(|_| "it succeeded")
            );
        }
        // A test may have removed it.
        if self.nodes.iter().all(|node| !node.folder.exists()) {
            return Ok(());
        }
        stop.context("pipes cluster stop").map(|_| ())
    }

    /// Every process of this cluster.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = proc::mentioning(&self.home.path().to_string_lossy());
        if !self.id.is_empty() {
            found.extend(proc::stages(&self.id, None));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn show_logs(&self) {
        for node in &self.nodes {
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("--- the end of {}'s log", node.name);
            for line in &lines[lines.len().saturating_sub(25)..] {
                println!("{line}");
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        if self.checked {
            return;
        }
        let ended = self.end();
        if let Err(error) = ended {
            println!("{error:#}");
            assert!(std::thread::panicking(), "{error:#}");
        }
    }
}
