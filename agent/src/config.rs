//! `agent.toml`: what an agent is told before it starts.
//!
//! ```text
//! cluster = "local"                cluster_id = "01j..."           name = "n1"
//! address = "127.77.0.1"           data = "/abs/folder"            runtime = "/abs/folder"
//! executor = "process"             [ports] mesh = 7071             [[members]] name, address, mesh
//!                                                                  [[operators]] name, key
//! ```
//!
//! Always: (1) paths are absolute; (2) the node's own name stands in the first list of members; (3) operators' keys are
//! 32 bytes. Read once, at the start; a file that says otherwise is refused with the place and what to do.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What an agent is told before it starts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster's name, as the operator sees it.
    pub cluster: String,
    /// The cluster's identity, made by `init`: two clusters may have one name, never one id.
    pub cluster_id: String,
    /// This node's name.
    pub name: String,
    /// The address all of this agent's ports are bound to, and the source of its connections.
    pub address: IpAddr,
    /// Folder of what the agent keeps.
    pub data: PathBuf,
    /// Folder of its sockets: `agent.sock` and `stages/agent.sock`.
    pub runtime: PathBuf,
    /// How stages are started.
    pub executor: Executor,
    /// Ports at `address`.
    #[serde(default)]
    pub ports: Ports,
    /// The whole first list of the cluster; the first of it initialises the group.
    pub members: Vec<Member>,
    /// Operators that the cluster begins with; afterwards the store says who is one.
    #[serde(default)]
    pub operators: Vec<Operator>,
    /// How the store is kept.
    #[serde(default)]
    pub store: Store,
}

/// How the store is kept; what is left out is the store's own default.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Log entries after which a snapshot is made.
    pub snapshot_entries: Option<u64>,
}

/// How stages are started.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// As child processes: for local clusters.
    Process,
}

/// Ports, each with its default.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Ports {
    /// HTTP.
    pub gateway: u16,
    /// Mutual TLS between agents.
    pub mesh: u16,
    /// WAMP RawSocket.
    pub wamp: u16,
    /// etcd v3.
    pub etcd: u16,
    /// Image registry.
    pub registry: u16,
    /// Daemon workflows.
    pub workflows: u16,
}

impl Default for Ports {
    fn default() -> Ports {
        Ports {
            gateway: 7070,
            mesh: 7071,
            wamp: 7072,
            etcd: 2379,
            registry: 7073,
            workflows: 7080,
        }
    }
}

/// A server of the first list.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its node's name.
    pub name: String,
    /// Where its mesh listens.
    pub address: IpAddr,
    /// On which port.
    pub mesh: u16,
}

impl Member {
    /// Where its mesh listens.
    pub fn mesh_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.mesh)
    }
}

/// An operator that the cluster begins with.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// What it is called in listings.
    pub name: String,
    /// Its ed25519 public key, 64 hexadecimal digits.
    pub key: String,
}

/// Why a configuration is refused: always the operator's to mend, and reading it again helps only after that.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no configuration of an agent.
    #[error(
        "{path}, line {line}: {what}; another node's file has the same but for name, address and folders"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// Why.
        what: String,
    },
    /// It is one, but cannot be meant.
    #[error("{path}: {what}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to write instead.
        what: String,
    },
}

impl Config {
    /// Reads and checks `path`.
    pub fn read(path: &Path) -> Result<Config, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Config, Error> {
        let config: Config = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            Error::Malformed {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                what: error.message().replace('\n', ", "),
            }
        })?;
        match config.wrong() {
            Some(what) => Err(Error::Refused {
                path: path.to_owned(),
                what,
            }),
            None => Ok(config),
        }
    }

    fn wrong(&self) -> Option<String> {
        for (field, folder) in [("data", &self.data), ("runtime", &self.runtime)] {
            if !folder.is_absolute() {
                return Some(format!(
                    "`{field}` is {}: an absolute path is needed",
                    folder.display()
                ));
            }
        }
        if self.cluster_id.is_empty() || !self.cluster_id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Some(format!(
                "`cluster_id` is {:?}: letters and digits are needed",
                self.cluster_id
            ));
        }
        if self.members.is_empty() {
            return Some("`members` is empty: the first list of the cluster is needed".to_owned());
        }
        if self.store.snapshot_entries == Some(0) {
            return Some("`snapshot_entries` is 0: a number from 1 is needed".to_owned());
        }
        for operator in &self.operators {
            if public_key(&operator.key).is_none() {
                return Some(format!(
                    "the key of operator {:?} is not 64 hexadecimal digits",
                    operator.name
                ));
            }
        }
        None
    }

    /// Where this node's mesh listens.
    pub fn mesh_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.ports.mesh)
    }

    /// Whether this node is the one that initialises the group.
    pub fn is_first(&self) -> bool {
        self.members.first().is_some_and(|first| first.name == self.name)
    }

    /// The others of the first list.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.name != self.name)
    }

    /// Folder of the log, the state and the node's identity.
    pub fn raft_folder(&self) -> PathBuf {
        self.data.join("raft")
    }

    /// Where it is said that the store's folder is to be set aside at the next start.
    pub fn reset_file(&self) -> PathBuf {
        self.data.join("reset")
    }

    /// Folder of the blobs.
    pub fn blob_folder(&self) -> PathBuf {
        self.data.join("blobs")
    }

    /// Folder of output that clients of daemon workflows do not read yet.
    pub fn spool_folder(&self) -> PathBuf {
        self.data.join("spool")
    }

    /// Folder of the CA's and the node's certificates.
    pub fn tls_folder(&self) -> PathBuf {
        self.data.join("tls")
    }

    /// The file that is there while the agent serves.
    pub fn ready_file(&self) -> PathBuf {
        self.data.join("ready")
    }

    /// The operators' socket.
    pub fn operators_socket(&self) -> PathBuf {
        self.runtime.join("agent.sock")
    }

    /// The shims' socket.
    pub fn stages_socket(&self) -> PathBuf {
        self.runtime.join("stages").join("agent.sock")
    }
}

/// An ed25519 public key out of its hexadecimal digits.
pub fn public_key(digits: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    hex::decode_to_slice(digits, &mut key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        cluster = "local"
        cluster_id = "01jabc"
        name = "n2"
        address = "127.77.0.2"
        data = "/state/n2"
        runtime = "/state/n2"
        executor = "process"
        [ports]
        wamp = 9000
        [[members]]
        name = "n1"
        address = "127.77.0.1"
        mesh = 7071
        [[members]]
        name = "n2"
        address = "127.77.0.2"
        mesh = 7071
    "#;

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(text, Path::new("agent.toml"))
    }

    #[test]
    fn a_whole_file_is_read_and_what_is_left_out_has_its_default() {
        let config = parse(WHOLE).unwrap();
        assert_eq!(
            config.ports,
            Ports {
                wamp: 9000,
                ..Ports::default()
            }
        );
        assert!(!config.is_first());
        assert_eq!(
            config
                .others()
                .map(|other| other.name.as_str())
                .collect::<Vec<_>>(),
            ["n1"]
        );
        assert_eq!(config.mesh_address().to_string(), "127.77.0.2:7071");
    }

    #[test]
    fn a_relative_folder_is_refused_with_its_field() {
        let refused = parse(&WHOLE.replace("data = \"/state/n2\"", "data = \"state\"")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "agent.toml: `data` is state: an absolute path is needed"
        );
    }

    #[test]
    fn how_often_a_snapshot_is_made_may_be_said() {
        assert_eq!(parse(WHOLE).unwrap().store.snapshot_entries, None);
        let said = |entries: u64| parse(&format!("{WHOLE}\n[store]\nsnapshot_entries = {entries}\n"));
        assert_eq!(said(500).unwrap().store.snapshot_entries, Some(500));
        assert!(matches!(said(0), Err(Error::Refused { .. })));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(matches!(
            parse(&format!("colour = 1\n{WHOLE}")),
            Err(Error::Malformed { .. })
        ));
    }
}
