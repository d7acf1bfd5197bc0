//! Contexts: which cluster is meant, at which servers, and with which key.
//!
//! ```text
//! $XDG_CONFIG_HOME/pipes/contexts/local.json    {name, cluster, cluster_id, servers, key, operator, ca, local}   0600
//! $XDG_CONFIG_HOME/pipes/current                local
//! ```
//!
//! In use is, in this order: `PIPES_CONTEXT` (a name, or an exported file), the current one, the only one, and on a
//! server the agent's own socket. `PIPES_AGENT` then replaces the servers by one.
//!
//! Always: (1) a file is replaced whole or not at all; (2) the key is readable to its owner alone.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::given;

/// WAMP RawSocket's port where an address has none.
const WAMP_PORT: u16 = 7072;

/// A context has a key, a certificate and some addresses; what `PIPES_CONTEXT` names may be anything.
const CONTEXT_MAX: u64 = 1 << 20;

/// The operators' socket of a server's agent: root there needs no context.
const SERVER_SOCKET: &str = "/run/pipes/agent.sock";

/// One context, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// What it is called here.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's id.
    pub cluster_id: String,
    /// `ADDRESS:PORT` of each agent's WAMP RawSocket.
    pub servers: Vec<String>,
    /// Seed of the operator's ed25519 key, hexadecimal.
    pub key: String,
    /// The operator's name.
    pub operator: String,
    /// The cluster's CA, PEM.
    pub ca: String,
    /// Folder of a local cluster's state.
    #[serde(default)]
    pub local: Option<PathBuf>,
}

/// Where and as whom to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What to call it in messages.
    pub name: String,
    /// In the order they are tried.
    pub servers: Vec<Server>,
    /// Name and key of the operator; without, the socket's owner is asked for.
    pub operator: Option<(String, String)>,
    /// Name of the cluster, where it is this user's on this machine.
    pub local: Option<String>,
    /// Whether the servers are all of the context's: not one alone, as `PIPES_AGENT` says.
    pub is_whole: bool,
}

/// One agent. At an address anybody may answer, once the agent is dead: there it has to prove itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// By the operators' socket, in a folder that its user alone can enter: whoever answers there is that agent.
    Near {
        /// Its address, which is what people know it by.
        address: Option<SocketAddr>,
        /// Its operators' socket.
        socket: PathBuf,
    },
    /// By TLS.
    Far {
        /// Its address.
        address: SocketAddr,
        /// Who says that it is one.
        authority: Arc<Authority>,
    },
}

/// By whom the agents of a cluster are known.
#[derive(Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its certificates, PEM.
    pub ca: String,
    /// The cluster's id.
    pub cluster_id: String,
}

impl Server {
    fn is_at(&self, asked: SocketAddr) -> bool {
        match self {
            Server::Near { address, .. } => *address == Some(asked),
            Server::Far { address, .. } => *address == asked,
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Server::Near {
                address: Some(address),
                ..
            }
            | Server::Far { address, .. } => address.fmt(out),
            Server::Near { socket, .. } => socket.display().fmt(out),
        }
    }
}

/// The user's contexts.
#[derive(Debug, Clone)]
pub struct Contexts {
    folder: PathBuf,
}

impl Contexts {
    /// Those of this user.
    pub fn open() -> Result<Contexts, Error> {
        Ok(Contexts {
            folder: xdg("XDG_CONFIG_HOME", ".config")?.join("pipes"),
        })
    }

    #[cfg(test)]
    fn at(folder: &Path) -> Contexts {
        Contexts {
            folder: folder.to_owned(),
        }
    }

    /// All of them, by name.
    pub fn all(&self) -> Result<Vec<Context>, Error> {
        let folder = self.folder.join("contexts");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::read(folder, error)),
        };
        let mut contexts = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| Error::read(&folder, error))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                contexts.push(read(&path)?);
            }
        }
        contexts.sort_by(|one: &Context, other| one.name.cmp(&other.name));
        Ok(contexts)
    }

    /// The one of this name, if there is one.
    pub fn find(&self, name: &str) -> Result<Option<Context>, Error> {
        let path = self.path(name)?;
        if path.exists() {
            read(&path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The one of this name; an error that lists the names there are.
    pub fn named(&self, name: &str) -> Result<Context, Error> {
        match self.find(name)? {
            Some(context) => Ok(context),
            None => Err(self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let all = self.all().unwrap_or_default();
        let names: Vec<_> = all.iter().map(|context| context.name.as_str()).collect();
        Error::Local(match names.as_slice() {
            [] => format!("there is no context '{name}', nor any other; begin with: pipes init --local"),
            names => format!("there is no context '{name}'; there is {}", names.join(", ")),
        })
    }

    /// Name of the one in use, if one was chosen.
    pub fn current(&self) -> Option<String> {
        let text = fs::read_to_string(self.folder.join("current")).ok()?;
        Some(text.trim().to_owned()).filter(|name| !name.is_empty())
    }

    /// Makes the one of this name the current one.
    pub fn choose(&self, name: &str) -> Result<(), Error> {
        self.named(name)?;
        replace(&self.folder.join("current"), format!("{name}\n").as_bytes())
    }

    /// Writes a context.
    pub fn save(&self, context: &Context) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(context).map_err(|error| Error::Local(error.to_string()))?;
        replace(&self.path(&context.name)?, &json)
    }

    /// Forgets a context; no other becomes the current one by that.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(self.unknown(name)),
            Err(source) => {
                return Err(Error::File {
                    doing: "remove",
                    path,
                    source,
                });
            }
        }
        if self.current().as_deref() == Some(name) {
            // Gone already is as good.
            let _ = fs::remove_file(self.folder.join("current"));
        }
        Ok(())
    }

    /// The one in use: chosen by the environment, by `context use`, or by being the only one.
    pub fn in_use(&self) -> Result<Context, Error> {
        if let Some(chosen) = std::env::var_os("PIPES_CONTEXT").filter(|chosen| !chosen.is_empty()) {
            let path = Path::new(&chosen);
            return match chosen.to_str() {
                Some(name) if !name.contains('/') && !path.is_file() => self.named(name),
                _ => read(path),
            };
        }
        if let Some(name) = self.current() {
            return self.named(&name);
        }
        let mut all = self.all()?;
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(Error::Local(
                "there is no cluster yet; make one with: pipes init --local".into(),
            )),
            (Some(_), false) => Err(Error::Local(
                "no context is chosen; choose one with: pipes context use NAME".into(),
            )),
        }
    }

    /// Where to connect, as the environment and the context in use say.
    pub fn target(&self) -> Result<Target, Error> {
        let agent = std::env::var("PIPES_AGENT")
            .ok()
            .filter(|agent| !agent.is_empty());
        let context = match self.in_use() {
            Ok(context) => context,
            Err(_) if agent.is_none() && Path::new(SERVER_SOCKET).exists() => {
                let servers = vec![Server::Near {
                    address: None,
                    socket: SERVER_SOCKET.into(),
                }];
                return Ok(Target {
                    name: "this server".into(),
                    servers,
                    operator: None,
                    local: None,
                    is_whole: false,
                });
            }
            Err(error) => return Err(error),
        };
        let mut target = Target::of(&context)?;
        if let Some(agent) = agent {
            let address = address(&agent).ok_or_else(|| {
                Error::Usage(format!(
                    "PIPES_AGENT is '{agent}': an address such as 127.77.0.1 or 127.77.0.1:7072 is needed"
                ))
            })?;
            target.servers = vec![server(&context, address).ok_or_else(|| {
                Error::Usage(format!(
                    "PIPES_AGENT is {agent}, and no agent of context {} is there; see: pipes node ls",
                    context.name
                ))
            })?];
            target.is_whole = false;
        }
        Ok(target)
    }

    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        if !is_name(name) {
            return Err(Error::Usage(format!(
                "'{name}' cannot be a name: letters, digits and ._- are allowed"
            )));
        }
        Ok(self.folder.join("contexts").join(format!("{name}.json")))
    }
}

impl Target {
    /// All servers of a context, with its key.
    pub fn of(context: &Context) -> Result<Target, Error> {
        let mut servers = Vec::new();
        for text in &context.servers {
            let at = address(text).ok_or_else(|| {
                Error::Local(format!("context {} has '{text}' for an address", context.name))
            })?;
            // Whose files are gone is not there.
            servers.extend(server(context, at));
        }
        if servers.is_empty() {
            return Err(Error::Local(format!(
                "the files of the local cluster {0} are gone; remove what is left with: pipes context rm {0}",
                context.name
            )));
        }
        let operator = Some((context.operator.clone(), context.key.clone()));
        Ok(Target {
            name: format!("context {}", context.name),
            servers,
            operator,
            local: context.local.as_ref().map(|_| context.name.clone()),
            is_whole: true,
        })
    }
}

/// The agent at an address, as this context reaches it; of a local cluster none, where no file tells of it.
fn server(context: &Context, address: SocketAddr) -> Option<Server> {
    match &context.local {
        Some(folder) => near(folder).into_iter().find(|server| server.is_at(address)),
        None => Some(Server::Far {
            address,
            authority: Arc::new(Authority {
                ca: context.ca.clone(),
                cluster_id: context.cluster_id.clone(),
            }),
        }),
    }
}

/// The agents of a local cluster, as their files say where they are.
fn near(folder: &Path) -> Vec<Server> {
    #[derive(Deserialize)]
    struct Agent {
        address: IpAddr,
        runtime: PathBuf,
        ports: Ports,
    }
    #[derive(Deserialize)]
    struct Ports {
        wamp: u16,
    }
    let nodes = fs::read_dir(folder).into_iter().flatten().flatten();
    let agents = nodes.filter_map(|node| {
        let text = given::text(&node.path().join("agent.toml"), CONTEXT_MAX).ok()?;
        let agent: Agent = toml::from_str(&text).ok()?;
        Some(Server::Near {
            address: Some(SocketAddr::new(agent.address, agent.ports.wamp)),
            socket: agent.runtime.join("agent.sock"),
        })
    });
    agents.collect()
}

/// Whether a cluster, and so a context and a folder, may be called so.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=63).contains(&name.len()) && name.chars().all(plain) && !name.starts_with(['.', '-'])
}

/// `ADDRESS[:PORT]`.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text.parse().ok().or_else(|| {
        bare.parse::<IpAddr>()
            .ok()
            .map(|ip| SocketAddr::new(ip, WAMP_PORT))
    })
}

fn read(path: &Path) -> Result<Context, Error> {
    let text = given::text(path, CONTEXT_MAX)?;
    serde_json::from_str(&text)
        .map_err(|error| Error::Local(format!("{} is no context: {error}", path.display())))
}

/// Writes beside and renames, so that a reader sees the old or the new; for its user alone, as the folder is.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = |error| Error::write(path, error);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(failed)
}

/// One of the XDG base folders, as its specification says: the variable when it is absolute, else below home.
pub fn xdg(variable: &str, below_home: &str) -> Result<PathBuf, Error> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute(variable)
        .or_else(|| absolute("HOME").map(|home| home.join(below_home)))
        .ok_or_else(|| {
            Error::Local(format!(
                "neither {variable} nor HOME is set: there is no place for the user's files"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn sample(name: &str) -> Context {
        Context {
            name: name.into(),
            cluster: name.into(),
            cluster_id: "01j".into(),
            servers: vec!["127.77.0.1:7072".into()],
            key: "00".repeat(32),
            operator: "me@here".into(),
            ca: String::new(),
            local: None,
        }
    }

    #[test]
    fn a_saved_context_is_found_and_its_key_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let contexts = Contexts::at(folder.path());
        contexts.save(&sample("a")).unwrap();
        assert_eq!(contexts.named("a").unwrap(), sample("a"));
        let file = folder.path().join("contexts/a.json");
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(contexts.all().unwrap().len(), 1);
    }

    #[test]
    fn an_unknown_context_is_refused_with_those_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let contexts = Contexts::at(folder.path());
        let none = contexts.named("x").unwrap_err().to_string();
        assert_eq!(
            none,
            "there is no context 'x', nor any other; begin with: pipes init --local"
        );
        contexts.save(&sample("a")).unwrap();
        contexts.save(&sample("b")).unwrap();
        assert_eq!(
            contexts.named("x").unwrap_err().to_string(),
            "there is no context 'x'; there is a, b"
        );
    }

    #[test]
    fn removing_the_current_context_leaves_none_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let contexts = Contexts::at(folder.path());
        contexts.save(&sample("a")).unwrap();
        contexts.choose("a").unwrap();
        assert_eq!(contexts.current().as_deref(), Some("a"));
        contexts.remove("a").unwrap();
        assert_eq!(contexts.current(), None);
    }

    #[test]
    fn an_address_without_a_port_has_the_usual_one() {
        let shown = |text| address(text).map(|address| address.to_string());
        assert_eq!(shown("127.77.0.1").as_deref(), Some("127.77.0.1:7072"));
        assert_eq!(shown("127.77.0.1:9").as_deref(), Some("127.77.0.1:9"));
        assert_eq!(shown("[::1]").as_deref(), Some("[::1]:7072"));
        assert_eq!(shown("[::1]:9").as_deref(), Some("[::1]:9"));
        assert_eq!(shown("here"), None);
    }

    #[test]
    fn a_name_cannot_leave_its_folder() {
        assert!(is_name("local-2") && !is_name("../x") && !is_name("") && !is_name(".x") && !is_name("a/b"));
    }
}
