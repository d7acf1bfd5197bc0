//! A node of a test's cluster: its folder, its process, and ways in.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rmpv::Value;

use crate::proc;
use crate::wamp::{Address, Outcome, Session};

/// The port of the mesh.
pub const MESH_PORT: u16 = 7071;
/// The port of WAMP RawSocket.
pub const WAMP_PORT: u16 = 7072;

/// One node, known by its folder.
#[derive(Clone, Debug)]
pub struct Node {
    /// `n1` and so on.
    pub name: String,
    /// Its loopback address.
    pub address: String,
    /// Its folder.
    pub folder: PathBuf,
}

impl Node {
    /// Its agent's process id.
    pub fn pid(&self) -> Result<i32> {
        let path = self.folder.join("agent.pid");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        text.trim()
            .parse()
            .with_context(|| format!("a process id in {}", path.display()))
    }

    /// Whether its agent runs.
    pub fn is_up(&self) -> bool {
        self.pid().is_ok_and(proc::is_alive)
    }

    /// The operators' socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("agent.sock")
    }

    /// The shims' socket.
    pub fn stages_socket(&self) -> PathBuf {
        self.folder.join("stages/agent.sock")
    }

    /// Its address and port for WAMP clients.
    pub fn wamp(&self) -> String {
        format!("{}:{WAMP_PORT}", self.address)
    }

    /// A session in realm `pipes`, on the operators' socket.
    pub fn operator(&self) -> Result<Session> {
        Session::join(&Address::Unix(self.socket()), "pipes", "anonymous", None)
    }

    /// The same, where neither joining nor any answer may take longer.
    pub fn operator_within(&self, limit: Duration) -> Result<Session> {
        Session::join_within(&Address::Unix(self.socket()), "pipes", "anonymous", None, limit)
    }

    /// Slots of its replicas that are taken.
    pub fn slots_used(&self) -> Result<u64> {
        let shown = self.supply()?;
        let used = field(&shown, "used").and_then(Value::as_u64);
        used.with_context(|| format!("slots in use in {shown:?}"))
    }

    /// Replicas of a service that can be called and are kept there, whoever uses them.
    pub fn replicas_kept(&self, service: &str) -> Result<u64> {
        let shown = self.supply()?;
        let kinds = field(&shown, "supply").and_then(|supply| field(supply, "kinds"));
        let kinds = kinds.and_then(Value::as_array);
        let kinds = kinds.with_context(|| format!("kinds in {shown:?}"))?;
        let of_service = kinds.iter().filter(|of| {
            let name = field(of, "kind").and_then(|kind| field(kind, "service"));
            name.and_then(Value::as_str) == Some(service)
        });
        let kept = of_service.filter_map(|of| {
            let (up, wished) = (field(of, "up")?.as_u64()?, field(of, "wished")?.as_u64()?);
            Some(up.min(wished))
        });
        Ok(kept.sum())
    }

    /// What it has for stages.
    fn supply(&self) -> Result<Value> {
        match self.operator()?.call("pipes.node.supply", vec![], vec![])? {
            Outcome::Done(arguments) => arguments.into_iter().next().context("it says nothing"),
            failed => bail!("pipes.node.supply: {failed:?}"),
        }
    }

    /// What its agent has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default()
    }

    /// A snapshot that is being written, or was when its agent was killed.
    pub fn unfinished_snapshot(&self) -> Option<PathBuf> {
        let snapshots = std::fs::read_dir(self.folder.join("raft/snapshots")).ok()?;
        let paths = snapshots.flatten().map(|entry| entry.path());
        paths
            .into_iter()
            .find(|path| path.extension().is_some_and(|extension| extension == "part"))
    }

    /// Adds lines to the end of its `agent.toml`, which it reads at its next start.
    pub(super) fn configure(&self, lines: &str) -> Result<()> {
        let path = self.folder.join("agent.toml");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path)?;
        file.write_all(lines.as_bytes())
            .with_context(|| format!("write {}", path.display()))
    }

    /// The value of a key of its `agent.toml`.
    pub(super) fn setting(&self, key: &str) -> Result<String> {
        let path = self.folder.join("agent.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let value = text.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
        });
        value.with_context(|| format!("{key} in {}", path.display()))
    }
}

/// A field of an object.
fn field<'v>(of: &'v Value, name: &str) -> Option<&'v Value> {
    let fields = of.as_map()?;
    let found = fields.iter().find(|(key, _)| key.as_str() == Some(name))?;
    Some(&found.1)
}
