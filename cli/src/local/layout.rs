//! A local cluster's folders and files, written once and read back.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::address::{Port, Ports};
use super::certificate::Authority;
use crate::context::xdg;
use crate::error::Error;

/// What the kernel takes as a socket's path, without the zero at its end.
const SOCKET_PATH_MAX: usize = 107;

/// A cluster of this user on this machine.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name: its folder's and its context's.
    pub name: String,
    /// The folder of its nodes' folders.
    pub folder: PathBuf,
    /// n1, n2, ...
    pub members: Vec<Member>,
}

/// One agent of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node's name.
    pub name: String,
    /// The node's folder.
    pub folder: PathBuf,
    /// Where its ports are.
    pub address: IpAddr,
    /// Port of its WAMP RawSocket.
    pub wamp: u16,
}

impl Member {
    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.join("agent.toml")
    }

    /// What it says while it runs.
    pub fn log(&self) -> PathBuf {
        self.folder.join("agent.log")
    }

    /// Where operators reach it.
    pub fn server(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.wamp)
    }
}

/// What a new cluster is made of.
pub struct Plan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its id.
    pub id: &'a str,
    /// One for each agent.
    pub addresses: &'a [IpAddr],
    /// Of each agent.
    pub ports: &'a Ports,
    /// The first operator's name and public key, hexadecimal.
    pub operator: (&'a str, &'a str),
}

/// `agent.toml`.
#[derive(Serialize, Deserialize)]
struct File {
    cluster: String,
    cluster_id: String,
    name: String,
    address: IpAddr,
    data: PathBuf,
    runtime: PathBuf,
    executor: String,
    ports: FilePorts,
    members: Vec<FileMember>,
    #[serde(default)]
    operators: Vec<FileOperator>,
}

#[derive(Clone, Serialize, Deserialize)]
struct FilePorts {
    gateway: u16,
    mesh: u16,
    wamp: u16,
    etcd: u16,
    registry: u16,
    workflows: u16,
}

#[derive(Clone, Serialize, Deserialize)]
struct FileMember {
    name: String,
    address: IpAddr,
    mesh: u16,
}

#[derive(Clone, Serialize, Deserialize)]
struct FileOperator {
    name: String,
    key: String,
}

/// The folder of all local clusters.
pub fn root() -> Result<PathBuf, Error> {
    Ok(xdg("XDG_STATE_HOME", ".local/state")?.join("pipes"))
}

/// One `pipes` at a time makes, starts or removes clusters in this folder; others wait.
pub fn lock(root: &Path) -> Result<fs::File, Error> {
    make_folder(root)?;
    let folder = fs::File::open(root).map_err(|error| Error::read(root, error))?;
    // SAFETY: the descriptor is open; the lock goes with it.
    while unsafe { libc::flock(folder.as_raw_fd(), libc::LOCK_EX) } != 0 {
        let source = std::io::Error::last_os_error();
        if source.kind() != std::io::ErrorKind::Interrupted {
            return Err(Error::File {
                doing: "lock",
                path: root.to_owned(),
                source,
            });
        }
    }
    Ok(folder)
}

impl Cluster {
    /// The one of this name, if it was made.
    pub fn find(name: &str) -> Result<Option<Cluster>, Error> {
        Cluster::read(&root()?.join(name), name)
    }

    /// All of them.
    pub fn all() -> Result<Vec<Cluster>, Error> {
        let root = root()?;
        // No folder: no cluster.
        let Ok(entries) = fs::read_dir(&root) else {
            return Ok(Vec::new());
        };
        let mut clusters = Vec::new();
        for entry in entries.flatten() {
            if let Some(name) = entry.file_name().to_str().filter(|name| !name.starts_with('.')) {
                clusters.extend(Cluster::read(&entry.path(), name)?);
            }
        }
        Ok(clusters)
    }

    fn read(folder: &Path, name: &str) -> Result<Option<Cluster>, Error> {
        let Ok(entries) = fs::read_dir(folder) else {
            return Ok(None);
        };
        let mut members = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path().join("agent.toml");
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let file: File = toml::from_str(&text)
                .map_err(|error| Error::Local(format!("{} cannot be read: {error}", path.display())))?;
            let FilePorts { wamp, .. } = file.ports;
            members.push(Member {
                name: file.name,
                folder: entry.path(),
                address: file.address,
                wamp,
            });
        }
        members.sort_by_key(|member| (member.name.len(), member.name.clone()));
        let cluster = Cluster {
            name: name.to_owned(),
            folder: folder.to_owned(),
            members,
        };
        Ok((!cluster.members.is_empty()).then_some(cluster))
    }

    /// Has a node that does not run, and was member `id`, begin anew when it is started: with new keys of the authority
    /// `ca`, and what it had of the store aside.
    pub fn renew(&self, name: &str, id: u64, cluster_id: &str, ca: &str) -> Result<(), Error> {
        let member = self.members.iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| Error::Local(format!("{name} is no node of {}", self.name)))?;
        let others = self.members.iter().filter(|other| other.name != name);
        let authority = others
            .filter_map(|other| {
                let file = |name| fs::read_to_string(other.folder.join("tls").join(name)).ok();
                // A damaged one would make keys that nobody takes.
                file("ca.pem").filter(|found| found == ca)?;
                Authority::read(cluster_id, ca, &file("ca.key")?).ok()
            })
            .next();
        let authority = authority
            .ok_or_else(|| Error::Local(format!("no other node of {} has a sound tls/ca.key", self.name)))?;
        let (tls, before) = (member.folder.join("tls"), member.folder.join("tls.before"));
        // Of a reset that was interrupted, or of an earlier one.
        let _ = fs::remove_dir_all(&before);
        if tls.exists() {
            fs::rename(&tls, &before).map_err(|error| Error::write(&tls, error))?;
        }
        write_keys(&tls, name, &authority)?;
        let marker = member.folder.join("reset");
        let _ = fs::remove_file(&marker);
        write(&marker, &format!("{id}\n"))
    }

    /// Writes all folders of a new cluster, in one step.
    pub fn write(root: &Path, plan: &Plan<'_>) -> Result<Cluster, Error> {
        let folder = root.join(plan.name);
        let beside = root.join(format!(".{}.new", plan.name));
        // Of an `init` that was interrupted.
        let _ = fs::remove_dir_all(&beside);
        let authority = Authority::new(plan.id)?;
        for index in 0..plan.addresses.len() {
            write_node(&beside, &folder, plan, index, &authority)?;
        }
        fs::rename(&beside, &folder).map_err(|error| Error::write(&folder, error))?;
        Cluster::read(&folder, plan.name)?
            .ok_or_else(|| Error::Local(format!("{} vanished while it was made", folder.display())))
    }
}

fn name_of(index: usize) -> String {
    format!("n{}", index + 1)
}

fn write_node(
    beside: &Path,
    place: &Path,
    plan: &Plan<'_>,
    index: usize,
    authority: &Authority,
) -> Result<(), Error> {
    let folder = beside.join(name_of(index));
    write_keys(&folder.join("tls"), &name_of(index), authority)?;
    let file = config(place, plan, index);
    let text =
        toml::to_string(&file).map_err(|error| Error::Local(format!("cannot write agent.toml: {error}")))?;
    write(&folder.join("agent.toml"), &text)
}

fn write_keys(tls: &Path, name: &str, authority: &Authority) -> Result<(), Error> {
    make_folder(tls)?;
    let pair = authority.node(name)?;
    write(&tls.join("ca.pem"), authority.certificate())?;
    write(&tls.join("ca.key"), &authority.key())?;
    write(&tls.join("node.pem"), &pair.certificate)?;
    write(&tls.join("node.key"), &pair.key)
}

fn config(place: &Path, plan: &Plan<'_>, index: usize) -> File {
    let name = name_of(index);
    let ports = plan.ports;
    let members = plan
        .addresses
        .iter()
        .enumerate()
        .map(|(index, address)| FileMember {
            name: name_of(index),
            address: *address,
            mesh: ports.of(Port::Mesh),
        });
    File {
        cluster: plan.name.to_owned(),
        cluster_id: plan.id.to_owned(),
        address: plan.addresses[index],
        data: place.join(&name),
        runtime: place.join(&name),
        executor: "process".to_owned(),
        ports: FilePorts {
            gateway: ports.of(Port::Gateway),
            mesh: ports.of(Port::Mesh),
            wamp: ports.of(Port::Wamp),
            etcd: ports.of(Port::Etcd),
            registry: ports.of(Port::Registry),
            workflows: ports.of(Port::Workflows),
        },
        members: members.collect(),
        operators: vec![FileOperator {
            name: plan.operator.0.to_owned(),
            key: plan.operator.1.to_owned(),
        }],
        name,
    }
}

/// Refuses what no socket could be made in, before anything is.
pub fn check_length(folder: &Path, count: usize) -> Result<(), Error> {
    let longest = folder
        .join(name_of(count.saturating_sub(1)))
        .join("stages")
        .join("agent.sock");
    let length = longest.as_os_str().as_bytes().len();
    if length <= SOCKET_PATH_MAX {
        return Ok(());
    }
    Err(Error::Local(format!(
        "{} has {length} bytes, a socket's path at most {SOCKET_PATH_MAX}; set XDG_STATE_HOME to a shorter folder, or --name",
        longest.display()
    )))
}

fn make_folder(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::File {
        doing: "make",
        path: path.to_owned(),
        source,
    })
}

/// A file that is its owner's alone, on disk when this returns.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| Error::write(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn made(root: &Path) -> Cluster {
        let addresses: Vec<IpAddr> = (1..=3).map(|last| IpAddr::from([127, 77, 0, last])).collect();
        let ports = Ports::new(&[(Port::Wamp, 9_000)]).unwrap();
        let plan = Plan {
            name: "local",
            id: "01jabc",
            addresses: &addresses,
            ports: &ports,
            operator: ("me@here", "ab"),
        };
        Cluster::write(root, &plan).unwrap()
    }

    #[test]
    fn a_cluster_that_was_written_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        let cluster = made(root.path());
        let shown: Vec<_> = cluster
            .members
            .iter()
            .map(|member| (member.name.as_str(), member.server()))
            .collect();
        assert_eq!(shown[0], ("n1", "127.77.0.1:9000".parse().unwrap()));
        assert_eq!(shown[2], ("n3", "127.77.0.3:9000".parse().unwrap()));
    }

    #[test]
    fn every_nodes_file_has_the_whole_list_and_its_own_folder() {
        let root = tempfile::tempdir().unwrap();
        let cluster = made(root.path());
        let text = fs::read_to_string(cluster.members[1].config()).unwrap();
        let file: File = toml::from_str(&text).unwrap();
        assert_eq!(file.members.len(), 3);
        assert_eq!(file.data, root.path().join("local/n2"));
        assert_eq!(
            (file.ports.wamp, file.ports.mesh, file.executor.as_str()),
            (9_000, 7_071, "process")
        );
        assert_eq!(file.operators[0].key, "ab");
    }

    #[test]
    fn keys_are_their_owners_alone() {
        let root = tempfile::tempdir().unwrap();
        let cluster = made(root.path());
        for file in ["tls/ca.key", "tls/node.key", "agent.toml"] {
            let mode = fs::metadata(cluster.members[0].folder.join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_node_that_begins_anew_has_new_keys_of_the_same_authority() {
        let root = tempfile::tempdir().unwrap();
        let cluster = made(root.path());
        let file = |member: usize, name: &str| {
            fs::read_to_string(cluster.members[member].folder.join(name)).unwrap_or_default()
        };
        let before = file(1, "tls/node.pem");
        fs::write(cluster.members[1].folder.join("tls/ca.key"), "damaged").unwrap();
        fs::write(cluster.members[0].folder.join("tls/ca.key"), "damaged").unwrap();
        let ca = file(2, "tls/ca.pem");
        cluster.renew("n2", 2, "01jabc", &ca).unwrap();
        assert_eq!(file(1, "reset"), "2\n");
        assert_ne!(file(1, "tls/node.pem"), before);
        assert_eq!(file(1, "tls/ca.key"), file(2, "tls/ca.key"));
        assert_eq!(file(1, "tls/ca.pem"), file(2, "tls/ca.pem"));
        assert!(cluster.renew("n9", 9, "01jabc", &ca).is_err());
        assert!(cluster.renew("n2", 2, "01jabc", "another").is_err());
    }

    #[test]
    fn a_folder_too_deep_for_sockets_is_refused_before_anything_is_made() {
        let folder = PathBuf::from("/").join("x".repeat(90)).join("local");
        let said = check_length(&folder, 3).unwrap_err().to_string();
        assert!(
            said.contains("a socket's path at most 107; set XDG_STATE_HOME to a shorter folder"),
            "{said}"
        );
        assert!(check_length(Path::new("/home/me/.local/state/pipes/local"), 99).is_ok());
    }
}
