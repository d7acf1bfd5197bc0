//! A node of a test's cluster: its folder, its process, and ways in.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::proc;
use crate::wamp::{Address, Outcome, Session};

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

    /// Slots of its replicas that are taken.
    pub fn slots_used(&self) -> Result<u64> {
        let answer = self.operator()?.call("pipes.node.supply", vec![], vec![])?;
        let Outcome::Done(arguments) = &answer else {
            bail!("pipes.node.supply: {answer:?}");
        };
        let shown = arguments.first().and_then(rmpv::Value::as_map);
        let used = shown.and_then(|shown| shown.iter().find(|(key, _)| key.as_str() == Some("used")));
        let used = used.and_then(|(_, used)| used.as_u64());
        used.with_context(|| format!("slots in use in {arguments:?}"))
    }

    /// What its agent has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default()
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
