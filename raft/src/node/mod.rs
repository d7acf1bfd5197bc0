//! A node of the group: opens what lies in its folder, becomes a member, serves its peers.
//!
//! | the folder has | the node is |
//! |---|---|
//! | nothing | a mere handle until [`Node::initialize`] or [`Node::join`] |
//! | an identity with a replica, and a log | a member that goes on where it was |
//! | an identity with a replica, and no log | refused: with an empty log it could vote committed entries away |
//! | an identity without a replica | a handle with an id, that asks the members |

pub(crate) mod identity;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fs2::FileExt as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::identity::Identity;
use crate::client::forward::{self, Forwarder};
use crate::client::routing::{Core, Target};
use crate::replica::Replica;
use crate::rpc::{self, Ask, Reply, Request, Response};
use crate::{Error, Peer, Store, Transport, format};

/// The id of a group's first node.
const FIRST_ID: u64 = 1;

/// How a node is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder that is the store's alone.
    pub dir: PathBuf,
    /// The cluster's id: a folder of another cluster is refused.
    pub cluster: String,
    /// This node's name, told to the group.
    pub name: String,
    /// How often the leader makes itself heard.
    pub heartbeat: Duration,
    /// The shortest time without a leader after which a node stands for election.
    pub election_min: Duration,
    /// The longest; it is also the leader's lease.
    pub election_max: Duration,
    /// How long a request may take before it is answered with an error.
    pub request_timeout: Duration,
    /// Entries after which a snapshot is made and the log before it purged.
    pub snapshot_entries: u64,
}

impl Options {
    /// The options of a node in `dir` of `cluster`, all else at its default.
    pub fn new(dir: impl Into<PathBuf>, cluster: impl Into<String>) -> Options {
        Options {
            dir: dir.into(),
            cluster: cluster.into(),
            name: String::new(),
            heartbeat: Duration::from_millis(125),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(400),
            request_timeout: Duration::from_secs(5),
            snapshot_entries: 100_000,
        }
    }
}

/// A member of the group as the group knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where its mesh listens.
    pub address: String,
}

/// What a node knows of the group.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// This node's id, once it has one.
    pub id: Option<u64>,
    /// The leader it knows of.
    pub leader: Option<u64>,
    /// The term it is in.
    pub term: u64,
    /// The store's revision as applied here.
    pub revision: i64,
    /// The index of the last log entry applied here.
    pub applied: u64,
    /// The members with a vote.
    pub voters: BTreeSet<u64>,
    /// The members without.
    pub learners: BTreeSet<u64>,
    /// Every member's name and address.
    pub members: BTreeMap<u64, Member>,
}

/// A node of the group.
pub struct Node {
    core: Arc<Core>,
    identity: Mutex<Option<Identity>>,
    /// One change of this node's membership at a time.
    entering: tokio::sync::Mutex<()>,
    forwarding: Mutex<Option<JoinHandle<()>>>,
    /// Held while the node is open: the folder is this process's alone.
    lock: Mutex<Option<File>>,
}

impl Node {
    /// Opens what lies in the folder; its tasks run on the runtime this is called on. An `id` that is given must be
    /// the one that lies there.
    pub async fn open(
        options: Options,
        id: Option<u64>,
        transport: Arc<dyn Transport>,
    ) -> Result<Node, Error> {
        let lock = lock_folder(&options)?;
        let identity = identity::read(&options.dir)?;
        if let Some(identity) = &identity
            && identity.cluster != options.cluster
        {
            return Err(Error::Refused(format!(
                "{}: this folder is of the cluster {}, not of {}",
                options.dir.display(),
                identity.cluster,
                options.cluster
            )));
        }
        let found = identity.as_ref().map(|identity| identity.id);
        if id.is_some() && id != found {
            let found = found.map_or("none".into(), |id| id.to_string());
            return Err(Error::Refused(format!(
                "{}: the node id here is {found}",
                options.dir.display()
            )));
        }
        let (forwarder, queue) = Forwarder::new();
        let core = Arc::new(Core::new(options, transport, forwarder));
        if let Some(identity) = &identity {
            let mut contacts = core.contacts();
            contacts.id = Some(identity.id);
            contacts.members = identity.members.clone();
        }
        if let Some(identity) = identity.as_ref().filter(|identity| identity.has_replica) {
            let replica = Replica::open(&core.options, identity.id, core.transport.clone(), false).await?;
            core.set_replica(Some(replica));
        }
        let forwarding = tokio::spawn(forward::run(core.clone(), queue, core.stop.clone()));
        Ok(Node {
            core,
            identity: Mutex::new(identity),
            entering: tokio::sync::Mutex::new(()),
            forwarding: Mutex::new(Some(forwarding)),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Makes this node the first of a new group, with id 1 and itself alone in it.
    pub async fn initialize(&self, address: SocketAddr) -> Result<(), Error> {
        let _entering = self.entering.lock().await;
        let member = self.member(&self.core.options.name, address);
        let members = BTreeMap::from([(FIRST_ID, member)]);
        let known = self.identity();
        if self.has_log() || known.as_ref().is_some_and(|identity| identity.id != FIRST_ID) {
            return Err(Error::Refused("this node is of a group already".into()));
        }
        let replica = self.start_replica(FIRST_ID, known.is_none(), &members).await?;
        let initialized = replica.raft.initialize(members).await;
        initialized.map_err(|error| Error::Refused(error.to_string()))?;
        // The entry that names the members is the first of the log: once it is applied, the node leads.
        replica.applied(1, self.core.options.request_timeout).await
    }

    /// Whether a log lies here: this node has been of a group.
    pub fn has_log(&self) -> bool {
        self.core.replica().is_some_and(|replica| replica.has_log())
    }

    /// This node's id, once it has one; it lies in the folder's `identity`.
    pub fn id(&self) -> Option<u64> {
        self.identity().map(|identity| identity.id)
    }

    /// Answers what a peer's [`Transport::call`] carried.
    pub async fn serve(&self, request: Vec<u8>) -> Vec<u8> {
        let response = match rpc::decode::<Request>(&request) {
            Ok(request) => match (self.core.replica(), request) {
                (Some(replica), request) => replica.serve(request).await,
                (None, Request::Ask(..)) => Response::Reply(Reply::NotLeader(None)),
                (None, _) => Response::Failed("no replica runs here".into()),
            },
            Err(error) => {
                tracing::warn!(%error, "a peer asked for something that cannot be read");
                Response::Failed(error.to_string())
            }
        };
        rpc::encode(&response).unwrap_or_default()
    }

    /// Joins the group that `via` are of: takes an id if it has none, follows as a learner, and is given a vote while
    /// there are fewer than five. Returns the id once this node has what the group had when it was asked.
    pub async fn join(&self, via: &[SocketAddr], name: &str, address: SocketAddr) -> Result<u64, Error> {
        let _entering = self.entering.lock().await;
        let deadline = self.core.deadline();
        let member = self.member(name, address);
        let leader = self.find_leader(via, deadline).await?;
        let identity = match self.identity() {
            Some(identity) => identity,
            None => {
                let reply = self.ask(&leader, Ask::Allocate(member.clone()), deadline).await?;
                let Reply::Allocated(id, has_replica) = reply else {
                    return Err(unexpected());
                };
                if has_replica {
                    self.start_replica(id, true, &BTreeMap::new()).await?;
                }
                let members = self.core.contacts().members.clone();
                self.write_identity(Identity {
                    cluster: self.core.options.cluster.clone(),
                    id,
                    has_replica,
                    members,
                })?
            }
        };
        if !identity.has_replica {
            self.core.contacts().id = Some(identity.id);
            return Ok(identity.id);
        }
        let replica = match self.core.replica() {
            Some(replica) => replica,
            None => self.start_replica(identity.id, false, &identity.members).await?,
        };
        self.ask(&leader, Ask::Attach(identity.id, member), deadline)
            .await?;
        let Reply::ReadIndex(end) = self.ask(&leader, Ask::ReadIndex, deadline).await? else {
            return Err(unexpected());
        };
        replica
            .applied(end, deadline.saturating_duration_since(Instant::now()))
            .await?;
        Ok(identity.id)
    }

    /// The handle to the store.
    pub fn store(&self) -> Store {
        Store::new(self.core.clone())
    }

    /// What this node knows of the group.
    pub fn status(&self) -> Status {
        status(&self.core)
    }

    /// Ends Raft, flushes, closes the files. Handles that are left answer [`Error::Stopped`].
    pub async fn shutdown(&self) {
        self.core.stop.cancel();
        let forwarding = self
            .forwarding
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(forwarding) = forwarding {
            let _ = forwarding.await;
        }
        if let Some(replica) = self.core.set_replica(None) {
            replica.shutdown().await;
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn identity(&self) -> Option<Identity> {
        self.identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn member(&self, name: &str, address: SocketAddr) -> Member {
        Member {
            name: name.to_owned(),
            address: address.to_string(),
        }
    }

    fn write_identity(&self, identity: Identity) -> Result<Identity, Error> {
        identity::write(&self.core.options.dir, &identity)?;
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity.clone());
        Ok(identity)
    }

    /// Starts a replica. Its empty log is made before the identity says that there is one.
    async fn start_replica(
        &self,
        id: u64,
        is_new: bool,
        members: &BTreeMap<u64, Member>,
    ) -> Result<Arc<Replica>, Error> {
        if let Some(replica) = self.core.replica() {
            return Ok(replica);
        }
        let options = self.core.options.clone();
        let transport = self.core.transport.clone();
        // On the store's own runtime, whoever calls.
        let opening = self
            .core
            .runtime
            .spawn(async move { Replica::open(&options, id, transport, is_new).await });
        let replica = opening.await.map_err(|error| Error::Disk(error.to_string()))??;
        if is_new {
            let cluster = self.core.options.cluster.clone();
            self.write_identity(Identity {
                cluster,
                id,
                has_replica: true,
                members: members.clone(),
            })?;
        }
        self.core.contacts().id = Some(id);
        self.core.set_replica(Some(replica.clone()));
        Ok(replica)
    }

    /// Asks those who are said to be members who leads.
    async fn find_leader(&self, via: &[SocketAddr], deadline: Instant) -> Result<Peer, Error> {
        self.core.contacts().seeds = via.to_vec();
        loop {
            for address in via {
                let mut peer = Peer {
                    id: 0,
                    address: *address,
                };
                // The first asked may know the leader; the leader knows the members.
                for _ in 0..2 {
                    let limit = deadline.saturating_duration_since(Instant::now());
                    match self.core.ask_peer(&peer, Ask::Members, limit).await {
                        Some(Reply::Members(members)) => {
                            self.core.contacts().members = members.into_iter().collect();
                            return Ok(peer);
                        }
                        Some(Reply::NotLeader(Some((id, member)))) => {
                            self.core.note_leader(Some((id, member.clone())));
                            let Some(leader) = crate::consensus::network::peer(id, &member) else {
                                break;
                            };
                            peer = leader;
                        }
                        Some(_) | None => break,
                    }
                }
            }
            self.core.pause(deadline, Error::NoLeader).await?;
        }
    }

    async fn ask(&self, leader: &Peer, ask: Ask, deadline: Instant) -> Result<Reply, Error> {
        let limit = deadline.saturating_duration_since(Instant::now());
        match self.core.send(leader, ask, limit).await {
            Ok(Reply::Failed(error)) => Err(error),
            Ok(Reply::NotLeader(_)) | Err(crate::TransportError::NotSent(_)) => Err(Error::NoLeader),
            Ok(reply) => Ok(reply),
            Err(crate::TransportError::Unknown(_)) => Err(Error::Unknown),
        }
    }
}

/// What the node knows of the group.
pub(crate) fn status(core: &Core) -> Status {
    let Some(replica) = core.replica() else {
        let contacts = core.contacts();
        return Status {
            id: contacts.id,
            members: contacts.members.clone(),
            ..Status::default()
        };
    };
    let leader = match core.leader() {
        Some(Target::Here(replica)) => Some(replica.id),
        Some(Target::There(peer)) => Some(peer.id),
        None => None,
    };
    let (revision, applied) = (replica.state.revisions().0, replica.state.applied().0);
    // Borrowed metrics keep Raft from going on, and who borrows them twice may wait for ever.
    let (term, membership) = {
        let metrics = replica.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.current_term, metrics.membership_config.clone())
    };
    let membership = membership.membership();
    Status {
        id: Some(replica.id),
        leader,
        term,
        revision,
        applied: applied.map_or(0, |log_id| log_id.index),
        voters: membership.voter_ids().collect(),
        learners: membership.learner_ids().collect(),
        members: membership
            .nodes()
            .map(|(id, member)| (*id, member.clone()))
            .collect(),
    }
}

fn unexpected() -> Error {
    Error::Corrupt("a peer answered something else than it was asked".into())
}

fn lock_folder(options: &Options) -> Result<File, Error> {
    let told = |error: std::io::Error| format::disk(&options.dir, &error);
    std::fs::create_dir_all(&options.dir).map_err(told)?;
    let path = options.dir.join("lock");
    let lock = File::create(&path).map_err(|error| format::disk(&path, &error))?;
    if lock.try_lock_exclusive().is_err() {
        return Err(Error::Refused(format!(
            "{}: another process has this store open",
            options.dir.display()
        )));
    }
    Ok(lock)
}
