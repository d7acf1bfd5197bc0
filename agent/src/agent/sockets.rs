//! Every socket the agent listens on, bound before anything else starts.
//!
//! | socket | for |
//! |---|---|
//! | TCP `ADDRESS:mesh` | other agents |
//! | TCP `ADDRESS:wamp` | WAMP over RawSocket, plain on loopback and over TLS |
//! | TCP `ADDRESS:workflows` | HTTP of all daemon workflows |
//! | `RUNTIME/agent.sock`, 0600 in a folder 0700 | operators: root and the agent's own user |
//! | `RUNTIME/stages/agent.sock`, 0666 | shims, by token; the only folder a container gets |
//!
//! A port that is taken is the operator's to mend: one sentence says which, by whom where that can be seen, and the
//! option that changes it.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pipes_router::{Handshaking, Listener};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::gateway::listen::holder;

/// What the kernel takes as a socket's path, without the zero at its end.
const SOCKET_PATH_MAX: usize = 107;

/// All sockets, listening.
#[derive(Debug)]
pub struct Sockets {
    /// Other agents'.
    pub mesh: TcpListener,
    /// WAMP over RawSocket.
    pub wamp: TcpListener,
    /// HTTP of all daemon workflows.
    pub workflows: TcpListener,
    /// The operators'.
    pub operators: UnixListener,
    /// The shims'.
    pub stages: UnixListener,
}

/// Why a socket cannot be had; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else listens there.
    #[error("port {port} of {address} is taken{by}; choose another with --port {name}=PORT")]
    Taken {
        /// What the port is for.
        name: &'static str,
        /// The port.
        port: u16,
        /// At which address.
        address: IpAddr,
        /// ` by COMMAND (process N)`, or nothing where that cannot be seen.
        by: String,
    },
    /// The address is none of this machine's, or the port is not ours to take.
    #[error("cannot listen on {address} ({name}): {source}")]
    Refused {
        /// What the port is for.
        name: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The kernel takes no path of this length.
    #[error("{path} is too long for a socket: {SOCKET_PATH_MAX} bytes are the most")]
    LongPath {
        /// The path.
        path: PathBuf,
    },
    /// The socket's file cannot be made.
    #[error("cannot listen on {path}: {source}")]
    Unix {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Sockets {
    /// The mesh's, the workflows', and everybody's ways into the router, which are opened last.
    pub fn part(self, tls: mpsc::Sender<Handshaking>) -> (TcpListener, TcpListener, Vec<Listener>) {
        let address = self.wamp.local_addr();
        let ways = vec![
            Listener::Tcp {
                listener: self.wamp,
                loopback: address.is_ok_and(|address| address.ip().is_loopback()),
                tls,
            },
            Listener::Operators(self.operators),
            Listener::Stages(self.stages),
        ];
        (self.mesh, self.workflows, ways)
    }

    /// Binds all of them. The data folder's lock must be held: what lies at the sockets' paths is removed.
    pub fn bind(config: &Config) -> Result<Sockets, Error> {
        let mesh = tcp("mesh", config.mesh_address())?;
        let wamp = tcp("wamp", SocketAddr::new(config.address, config.ports.wamp))?;
        let workflows = tcp(
            "workflows",
            SocketAddr::new(config.address, config.ports.workflows),
        )?;
        folder(&config.runtime, 0o700)?;
        let stages_socket = config.stages_socket();
        if let Some(stages) = stages_socket.parent() {
            folder(stages, 0o755)?;
        }
        Ok(Sockets {
            mesh,
            wamp,
            workflows,
            operators: unix(config.operators_socket(), 0o600)?,
            stages: unix(stages_socket, 0o666)?,
        })
    }
}

/// How long the sockets of an agent that was killed may outlive its lock: the kernel closes one after the other.
const CLOSING_MAX: Duration = Duration::from_secs(1);
/// How often a port is tried meanwhile.
const CLOSING_POLL: Duration = Duration::from_millis(20);

fn tcp(name: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let begun = Instant::now();
    let bound = loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < CLOSING_MAX => {
                std::thread::sleep(CLOSING_POLL);
            }
            bound => break bound,
        }
    };
    bound.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            let by = holder(address).map_or_else(String::new, |process| {
                format!(" by {} (process {})", process.name, process.pid)
            });
            Error::Taken {
                name,
                port: address.port(),
                address: address.ip(),
                by,
            }
        } else {
            Error::Refused {
                name,
                address,
                source,
            }
        }
    })
}

fn folder(path: &Path, mode: u32) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| Error::Unix {
        path: path.to_owned(),
        source,
    })
}

fn unix(path: PathBuf, mode: u32) -> Result<UnixListener, Error> {
    if path.as_os_str().as_bytes().len() > SOCKET_PATH_MAX {
        return Err(Error::LongPath { path });
    }
    // Of a former life, whose lock on the data folder is ours now.
    let _ = fs::remove_file(&path);
    let bound = UnixListener::bind(&path).and_then(|listener| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(listener)
    });
    bound.map_err(|source| Error::Unix { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_holder_and_the_option() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let said = tcp("wamp", address).unwrap_err().to_string();
        let port = address.port();
        assert!(
            said.starts_with(&format!("port {port} of 127.0.0.1 is taken by ")),
            "{said}"
        );
        assert!(
            said.contains(&format!("(process {})", std::process::id())),
            "{said}"
        );
        assert!(said.ends_with("; choose another with --port wamp=PORT"), "{said}");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(SOCKET_PATH_MAX));
        assert!(matches!(unix(path, 0o600), Err(Error::LongPath { .. })));
    }

    #[test]
    fn a_socket_of_a_former_life_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        drop(unix(path.clone(), 0o600).unwrap());
        unix(path.clone(), 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
