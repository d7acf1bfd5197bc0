//! A node of the group: opens what lies in its folder, becomes a member, serves its peers.
//!
//! | the folder has | the node is |
//! |---|---|
//! | nothing | a mere handle until [`Node::initialize`] or [`Node::join`] |
//! | an identity with a replica, and a log | a member that goes on where it was |
//! | an identity with a replica, and no log | sick: with an empty log it could vote committed entries away |
//! | an identity with a replica whose files are refused (`replica/damage.rs`), or that was taken out | sick: a handle with an id, until it is reset |
//! | a log, a snapshot or a state, and no identity | sick, and asks the members who it is |
//! | an identity without a replica | a handle with an id, that asks the members |
//!
//! What becomes of a replica once it is open: `place.rs`.

mod answer;
#[cfg(sim)]
mod held;
mod identity;
mod place;
mod sick;

use crate::fs::File;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

#[cfg(sim)]
pub use self::held::Held;
use self::identity::Identity;
use self::place::Place;
pub use self::sick::{id_in, set_aside};
use crate::client::Store;
use crate::client::forward::{self, Forwarder};
use crate::client::peers::Peers;
use crate::client::routing::Routing;
use crate::replica::{Replica, damage};
use crate::rpc::{self, ClientRequest, ClientResponse, Request, Response};
use crate::{Error, Member, Options, Peer, Status, Transport, TransportError, format, task};

/// The id of a group's first node.
const FIRST_ID: u64 = 1;

/// A node of the group.
pub struct Node {
    routing: Arc<Routing>,
    identity: Arc<Mutex<Option<Identity>>>,
    /// One change of this node's membership at a time.
    entering: tokio::sync::Mutex<()>,
    /// Where its tasks run, whoever calls.
    runtime: Handle,
    /// The forwarder, and what the leader does beside.
    tasks: TaskTracker,
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
        // It may have got its name just before a kill.
        format::sync_dir(&options.dir)?;
        let (identity, lost) = match read_identity(&options) {
            Ok(identity) => (identity, None),
            Err(Error::Corrupt(why)) => (None, Some(damage::advised(&why, &options.name))),
            Err(error) => return Err(error),
        };
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
        if id.is_some() && id != found && lost.is_none() {
            let found = found.map_or("none".into(), |id| id.to_string());
            return Err(Error::Refused(format!(
                "{}: the node id here is {found}",
                options.dir.display()
            )));
        }
        let (forwarder, queue) = Forwarder::new();
        let peers = Arc::new(Peers::new(transport));
        let node = Node {
            routing: Arc::new(Routing::new(options, peers.clone(), forwarder)),
            identity: Arc::new(Mutex::new(identity.clone())),
            entering: tokio::sync::Mutex::new(()),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            lock: Mutex::new(Some(lock)),
        };
        if let Some(identity) = identity {
            peers.note_id(identity.id);
            peers.note_members(identity.members);
            let options = &node.routing.options;
            if let Some(why) = sick::read(&options.dir)? {
                node.go_without(&why);
            } else if identity.has_replica {
                match Replica::open(options, identity.id, &peers.means(), false).await {
                    Ok(replica) => node.put_replica(&replica),
                    Err(Error::Corrupt(why)) => node.go_without(&damage::advised(&why, &node.name())),
                    Err(error) => return Err(error),
                }
            }
        }
        if let Some(why) = lost {
            node.go_without(&why);
        }
        let stop = node.routing.stop.clone();
        node.tasks.spawn(task::scoped(forward::run(peers, queue, stop)));
        Ok(node)
    }

    /// Makes this node the first of a new group, with id 1 and itself alone in it.
    pub async fn initialize(&self, address: SocketAddr) -> Result<(), Error> {
        let _entering = self.entering.lock().await;
        if let Some(why) = self.routing.peers.sick() {
            return Err(Error::Corrupt(why));
        }
        let member = self.member(&self.routing.options.name, address);
        let members = BTreeMap::from([(FIRST_ID, member)]);
        let known = self.identity();
        if self.has_log() || known.as_ref().is_some_and(|identity| identity.id != FIRST_ID) {
            return Err(Error::Refused("this node is of a group already".into()));
        }
        let replica = self.start_replica(FIRST_ID, known.is_none(), &members).await?;
        let initialized = replica.raft.initialize(members).await;
        initialized.map_err(|error| Error::Refused(error.to_string()))?;
        // The entry that names the members is the first of the log: once it is applied, the node leads.
        replica.applied(1, self.routing.options.request_timeout).await
    }

    /// Whether the replica has ended by itself.
    #[cfg(sim)]
    pub fn has_ended(&self) -> bool {
        let replica = self.routing.peers.replica();
        replica.is_some_and(|replica| replica.has_ended())
    }

    /// What the replica holds.
    #[cfg(sim)]
    pub fn held(&self) -> Option<Held> {
        let replica = self.routing.peers.replica()?;
        Some(Held(replica.state.clone()))
    }

    /// Whether a log lies here: this node has been of a group.
    pub fn has_log(&self) -> bool {
        self.routing
            .peers
            .replica()
            .is_some_and(|replica| replica.has_log())
    }

    /// This node's id, once it has one; it lies in the folder's `identity`.
    pub fn id(&self) -> Option<u64> {
        self.identity().map(|identity| identity.id)
    }

    /// Answers what a peer's [`Transport::call`] carried.
    pub async fn serve(&self, request: Vec<u8>) -> Vec<u8> {
        let response = match rpc::decode::<Request>(&request) {
            Ok(request) => match (self.routing.peers.replica(), request) {
                (Some(replica), request) => replica.serve(request).await,
                (None, Request::Client(..)) => Response::Client(ClientResponse::NotLeader(None), 0),
                (None, _) => Response::Failed("no replica runs here".into()),
            },
            Err(error) => {
                tracing::warn!(%error, "a peer asked for something that cannot be read");
                Response::Failed(error.to_string())
            }
        };
        answer::encode(response).await
    }

    /// Joins the group that `via` are of: takes an id if it has none, follows as a learner, and is given a vote while
    /// there are fewer than five. Returns the id once this node has what the group had when it was asked.
    pub async fn join(&self, via: &[SocketAddr], name: &str, address: SocketAddr) -> Result<u64, Error> {
        let _entering = self.entering.lock().await;
        let deadline = self.routing.deadline();
        let member = self.member(name, address);
        let leader = self.find_leader(via, deadline).await?;
        if self.identity().is_none()
            && let Some(id) = self.former(name)?
        {
            return Ok(id);
        }
        let identity = match self.identity() {
            Some(identity) => identity,
            None => {
                let response = self
                    .ask(&leader, ClientRequest::Allocate(member.clone()), deadline)
                    .await?;
                let ClientResponse::Allocated(id, has_replica) = response else {
                    return Err(unexpected());
                };
                if has_replica {
                    self.start_replica(id, true, &BTreeMap::new()).await?;
                }
                let members = self.routing.peers.known().1;
                self.write_identity(Identity {
                    cluster: self.routing.options.cluster.clone(),
                    id,
                    has_replica,
                    members,
                })?
            }
        };
        if !identity.has_replica {
            self.routing.peers.note_id(identity.id);
            return Ok(identity.id);
        }
        let replica = match (self.routing.peers.replica(), self.routing.peers.sick()) {
            (Some(replica), _) => replica,
            (None, Some(why)) => return Err(Error::Refused(why)),
            (None, None) => self.start_replica(identity.id, false, &identity.members).await?,
        };
        self.ask(&leader, ClientRequest::Attach(identity.id, member), deadline)
            .await?;
        let ClientResponse::ReadIndex(end) = self.ask(&leader, ClientRequest::ReadIndex, deadline).await?
        else {
            return Err(unexpected());
        };
        replica
            .applied(end, deadline.saturating_duration_since(Instant::now()))
            .await?;
        Ok(identity.id)
    }

    /// Where members are said to be: what lies in the folder of a node without a replica may be older than they are.
    pub fn note_seeds(&self, addresses: &[SocketAddr]) {
        self.routing.peers.note_seeds(addresses);
    }

    /// The handle to the store.
    pub fn store(&self) -> Store {
        Store::new(self.routing.clone())
    }

    /// What this node knows of the group.
    pub fn status(&self) -> Status {
        self.routing.status()
    }

    /// Hands the leadership over, if this node has it: the others need not wait until they miss their leader. Nothing can
    /// be written here until another leads.
    pub async fn hand_over(&self) {
        if let Some(replica) = self.routing.peers.replica() {
            replica.step_down().await;
        }
    }

    /// Ends Raft, flushes, closes the files. Handles that are left answer [`Error::Stopped`].
    pub async fn shutdown(&self) {
        self.routing.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(replica) = self.routing.peers.set_replica(None) {
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
        identity::write(&self.routing.options.dir, &identity)?;
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
        if let Some(replica) = self.routing.peers.replica() {
            return Ok(replica);
        }
        let options = self.routing.options.clone();
        let means = self.routing.peers.means();
        let opening = self.runtime.spawn(task::scoped(async move {
            Replica::open(&options, id, &means, is_new).await
        }));
        let replica = opening.await.map_err(|error| Error::Disk(error.to_string()))??;
        if is_new {
            let cluster = self.routing.options.cluster.clone();
            self.write_identity(Identity {
                cluster,
                id,
                has_replica: true,
                members: members.clone(),
            })?;
        }
        self.routing.peers.note_id(id);
        self.put_replica(&replica);
        Ok(replica)
    }

    /// Which member this node was before it lost its files: it goes on without a replica until it is reset, since it
    /// voted, and acknowledged what it lacks now.
    fn former(&self, name: &str) -> Result<Option<u64>, Error> {
        let members = self.routing.peers.known().1;
        let mut named = members.iter().filter(|(_, member)| member.name == name);
        let id = named.next().map(|(id, _)| *id);
        match (id, self.routing.peers.sick()) {
            (None, None) => return Ok(None),
            (None, Some(why)) => return Err(Error::Corrupt(why)),
            (Some(_), Some(_)) => {}
            (Some(id), None) => {
                let dir = self.routing.options.dir.display();
                let why = format!(
                    "{dir}: it is empty, and this node is member {id}: what it acknowledged and for whom it voted is lost"
                );
                self.go_without(&damage::advised(&why, name));
            }
        }
        if let Some(id) = id {
            self.routing.peers.note_id(id);
        }
        Ok(id)
    }

    fn name(&self) -> String {
        self.routing.options.name.clone()
    }

    /// Goes on as a handle to the others' store.
    fn go_without(&self, why: &str) {
        tracing::error!("{why}; this node goes on without a replica");
        self.routing.peers.note_sick(Some(why.to_owned()));
    }

    /// Puts the replica in its place.
    fn put_replica(&self, replica: &Arc<Replica>) {
        let place = Place {
            routing: self.routing.clone(),
            identity: self.identity.clone(),
            runtime: self.runtime.clone(),
            tasks: self.tasks.clone(),
        };
        place.put(replica);
    }

    /// Asks those who are said to be members who leads.
    async fn find_leader(&self, via: &[SocketAddr], deadline: Instant) -> Result<Peer, Error> {
        self.routing.peers.note_seeds(via);
        loop {
            for address in via {
                let mut peer = Peer {
                    id: 0,
                    address: *address,
                };
                // The first asked may know the leader; the leader knows the members.
                for _ in 0..2 {
                    let limit = deadline.saturating_duration_since(Instant::now());
                    match self.routing.peers.ask(&peer, ClientRequest::Members, limit).await {
                        Some(ClientResponse::Members(members)) => {
                            self.routing.peers.note_members(members.into_iter().collect());
                            return Ok(peer);
                        }
                        Some(ClientResponse::NotLeader(Some((id, member)))) => {
                            self.routing.peers.note_leader(Some((id, member.clone())));
                            let Some(leader) = Peer::of(id, &member) else {
                                break;
                            };
                            peer = leader;
                        }
                        Some(_) | None => break,
                    }
                }
            }
            self.routing.pause(deadline, Error::NoLeader).await?;
        }
    }

    async fn ask(
        &self,
        leader: &Peer,
        request: ClientRequest,
        deadline: Instant,
    ) -> Result<ClientResponse, Error> {
        let limit = deadline.saturating_duration_since(Instant::now());
        match self.routing.peers.send(leader, request, limit).await {
            Ok(ClientResponse::Failed(error)) => Err(error),
            Ok(ClientResponse::NotLeader(_)) | Err(TransportError::NotSent(_)) => Err(Error::NoLeader),
            Ok(response) => Ok(response),
            Err(TransportError::Unknown(_)) => Err(Error::Unknown),
        }
    }
}

fn unexpected() -> Error {
    Error::Corrupt("a peer answered something else than it was asked".into())
}

/// Who the node in the folder is; nobody in an empty one.
fn read_identity(options: &Options) -> Result<Option<Identity>, Error> {
    let identity = identity::read(&options.dir)?;
    if identity.is_none() && damage::holds_replica(&options.dir)? {
        return Err(Error::Corrupt(format!(
            "{}: it is gone, and with it which node of which cluster has what lies beside it",
            options.dir.join(identity::NAME).display()
        )));
    }
    Ok(identity)
}

fn lock_folder(options: &Options) -> Result<File, Error> {
    format::make_dir(&options.dir)?;
    let path = options.dir.join("lock");
    let lock = File::create(&path).map_err(|error| format::disk(&path, &error))?;
    if lock.try_lock().is_err() {
        return Err(Error::Refused(format!(
            "{}: another process has this store open",
            options.dir.display()
        )));
    }
    Ok(lock)
}
