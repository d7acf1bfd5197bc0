//! The mesh between agents of one process: who is let in, calls, blobs.

mod blobs;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pipes_agent::blob::{self, Blobs, Group, Holder, Members};
use pipes_agent::clock::Clocks;
use pipes_agent::lifecycle::{Kind, Lifecycle};
use pipes_agent::mesh::admitted::Names;
use pipes_agent::mesh::frame::FRAME_MAX;
use pipes_agent::mesh::handshake::{self, Hello, VERSION};
use pipes_agent::mesh::link::{Failure, Link};
use pipes_agent::mesh::listener::{HANDED_OVER_MAX, Incoming, Lines, Listener};
use pipes_agent::mesh::raft_rpc::Answers;
use pipes_agent::mesh::tls::Tls;
use pipes_agent::mesh::{Admitted, Class, Dialer, Error, Local, bulk};
use pipes_job::blobs::{Gone, Holder as Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::certificates::Authority;

const LIMIT: Duration = Duration::from_secs(10);
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Answers a request with its octets in reverse; to one that begins with `0` never.
struct Reverse;

#[async_trait::async_trait]
impl Answers for Reverse {
    async fn answer(&self, mut request: Vec<u8>) -> Vec<u8> {
        if request.first() == Some(&0) {
            std::future::pending::<()>().await;
        }
        request.reverse();
        request
    }
}

/// Who is a voter, as the tests say.
#[derive(Clone, Default)]
struct Voters(Arc<Mutex<Members>>);

impl Group for Voters {
    fn members(&self) -> Members {
        self.0.lock().unwrap().clone()
    }
}

/// Whether blobs are being collected, as the tests say.
#[derive(Clone, Default)]
struct Collected(Arc<AtomicBool>);

#[async_trait::async_trait]
impl Gone for Collected {
    async fn is_gone(&self, _: &str) -> Result<bool, pipes_job::Error> {
        Ok(self.0.load(Ordering::Relaxed))
    }
}

/// An agent's mesh and blobs.
struct Agent {
    folder: tempfile::TempDir,
    address: SocketAddr,
    dialer: Dialer,
    blobs: Blobs,
    collected: Collected,
    voters: Voters,
    router_links: mpsc::Receiver<Incoming>,
    listed: watch::Sender<Names>,
    lifecycle: Lifecycle,
}

impl Agent {
    fn start(authority: &Authority, cluster: &str, id: u64) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        authority.write(folder.path(), cluster, &format!("n{id}"));
        Agent::start_in(folder, id, SocketAddr::new(HOST, 0))
    }

    fn start_in(folder: tempfile::TempDir, id: u64, address: SocketAddr) -> Agent {
        let tls = Tls::read(folder.path()).unwrap();
        let local = Local::new(tls.identity().clone());
        local.is_node(id);
        let lifecycle = Lifecycle::new();
        let socket = TcpListener::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let dialer = Dialer::new(tls.clone(), local.clone(), HOST);
        let (router, router_links) = mpsc::channel(HANDED_OVER_MAX);
        let (to_bulk, bulk_connections) = mpsc::channel(HANDED_OVER_MAX);
        let (listed, admitted) = Admitted::first((1..=9).map(|id| format!("n{id}")).collect());
        let listener = Listener {
            tls,
            local,
            admitted,
            answers: Arc::new(Reverse),
            router,
            bulk: to_bulk,
            streams: Handle::current(),
            lifecycle: lifecycle.clone(),
            lines: Lines::default(),
        };
        lifecycle.spawn(Kind::Part, "listener", listener.run(socket));
        let files = blob::Store::open(folder.path().join("blobs")).unwrap();
        let collected = Collected::default();
        let rule = Rule::new(Box::new(collected.clone()), Clocks::boxed(|| 0));
        let holder = Holder::new(files, rule);
        let served = blob::serve(
            bulk_connections,
            holder.clone(),
            Arc::new(Reverse),
            lifecycle.clone(),
        );
        lifecycle.spawn(Kind::Part, "bulk", served);
        let client = bulk::Client::new(dialer.clone(), &lifecycle, Handle::current());
        let voters = Voters::default();
        let blobs = Blobs::new(holder, client, Arc::new(voters.clone()), &lifecycle);
        Agent {
            folder,
            address,
            dialer,
            blobs,
            collected,
            voters,
            router_links,
            listed,
            lifecycle,
        }
    }

    fn link(&self, to: SocketAddr) -> Link {
        Link::open(self.dialer.clone(), to, &self.lifecycle, &Handle::current())
    }

    /// Stops it in order; what it kept stays.
    async fn stop(self) -> tempfile::TempDir {
        assert!(self.lifecycle.stop(LIMIT).await, "tasks are left");
        assert_eq!(self.lifecycle.failure(), None);
        self.folder
    }
}

fn two(authority: &Authority) -> (Agent, Agent) {
    (Agent::start(authority, "c", 1), Agent::start(authority, "c", 2))
}

/// That `near` still gets its calls answered by `far`.
async fn calls_are_answered(near: &Agent, far: &Agent) {
    let answer = near.link(far.address).call(0, b"abc".to_vec(), LIMIT).await;
    assert_eq!(answer, Ok(b"cba".to_vec()));
}

#[tokio::test]
async fn a_node_that_is_removed_loses_what_is_open_in_every_class_and_gets_nothing_new() {
    let (near, far) = two(&Authority::new());
    let dialled = [Class::Raft, Class::Bulk].map(|class| near.dialer.dial(far.address, class));
    let open = futures::future::join_all(dialled).await;
    far.listed.send_replace(Names::from(["n2".into()]));
    for opened in open {
        let (mut stream, _) = opened.unwrap();
        let mut octet = [0];
        let read = tokio::time::timeout(LIMIT, stream.read(&mut octet)).await;
        assert!(matches!(read.unwrap(), Ok(0) | Err(_)), "it stays open");
    }
    for class in [Class::Raft, Class::Bulk, Class::Router] {
        let refused = near.dialer.dial(far.address, class).await.unwrap_err();
        assert!(matches!(refused, Error::Refused(_)), "{class:?}: {refused}");
    }
    near.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn requests_of_any_length_are_answered_each_with_its_own_answer() {
    let (near, far) = two(&Authority::new());
    let link = near.link(far.address);
    let calls = [0, 1, 65_535, 65_536, 65_537, 5_000_000].map(|length| {
        let request: Vec<u8> = (0..length).map(|index| (index % 251 + 1) as u8).collect();
        let link = &link;
        async move {
            let answer = link.call(2, request.clone(), LIMIT).await.unwrap();
            assert!(answer.iter().eq(request.iter().rev()), "{length}");
        }
    });
    futures::future::join_all(calls).await;
    drop(link);
    near.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn a_short_call_does_not_wait_behind_a_long_one() {
    let (near, far) = two(&Authority::new());
    let link = near.link(far.address);
    assert!(link.call(2, b"a".to_vec(), LIMIT).await.is_ok());
    let long = link.call(2, vec![1; 30_000_000], LIMIT);
    let short = async {
        for _ in 0..3 {
            assert_eq!(link.call(2, b"ab".to_vec(), LIMIT).await, Ok(b"ba".to_vec()));
        }
    };
    tokio::pin!(long);
    let shorts_first = tokio::select! {
        biased;
        _ = &mut long => false,
        () = short => true,
    };
    assert!(shorts_first, "three short calls took longer than one of 30 MB");
    assert_eq!(long.await.unwrap().len(), 30_000_000);
    near.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn a_call_meant_for_another_node_is_not_sent() {
    let (near, far) = two(&Authority::new());
    let answer = near.link(far.address).call(7, b"x".to_vec(), LIMIT).await;
    assert_eq!(answer, Err(Failure::NotSent("node 2 is there now".to_owned())));
    near.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn a_call_to_nobody_was_surely_not_sent_and_one_cut_off_may_have_been_carried_out() {
    let (near, far) = two(&Authority::new());
    let free = TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap();
    let nobody = near.link(free).call(0, b"x".to_vec(), LIMIT).await;
    assert!(matches!(nobody, Err(Failure::NotSent(_))), "{nobody:?}");

    let link = near.link(far.address);
    let silent = link.call(0, vec![0], Duration::from_millis(200)).await;
    assert!(matches!(silent, Err(Failure::Unknown(_))), "{silent:?}");
    let (cut, ()) = tokio::join!(link.call(0, vec![0], LIMIT), async {
        assert_eq!(link.call(0, b"ab".to_vec(), LIMIT).await, Ok(b"ba".to_vec()));
        far.stop().await;
    });
    assert!(matches!(cut, Err(Failure::Unknown(_))), "{cut:?}");
    near.stop().await;
}

#[tokio::test]
async fn a_peer_that_comes_back_is_called_again_within_a_second() {
    let (near, far) = two(&Authority::new());
    let link = near.link(far.address);
    assert!(link.call(2, b"a".to_vec(), LIMIT).await.is_ok());
    let address = far.address;
    let folder = far.stop().await;
    let gone = link.call(2, b"a".to_vec(), LIMIT).await;
    assert!(gone.is_err(), "{gone:?}");

    let back = Agent::start_in(folder, 2, address);
    let began = Instant::now();
    while let Err(Failure::NotSent(_)) = link.call(2, b"a".to_vec(), LIMIT).await {
        assert!(began.elapsed() < Duration::from_secs(2), "it is not called again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    near.stop().await;
    back.stop().await;
}

/// What the dialler with the files in `folder` is told by `far`.
async fn told(folder: tempfile::TempDir, far: &Agent) -> String {
    let tls = Tls::read(folder.path()).unwrap();
    let dialer = Dialer::new(tls.clone(), Local::new(tls.identity().clone()), HOST);
    dialer
        .dial(far.address, Class::Raft)
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn a_member_of_another_cluster_sees_at_once_that_it_is_one() {
    let far = Agent::start(&Authority::new(), "c", 1);
    let folder = tempfile::tempdir().unwrap();
    Authority::new().write(folder.path(), "d", "n2");
    assert_eq!(
        told(folder, &far).await,
        "its certificate (pipes://c/n1) is not signed by this cluster's CA: it is a member of another cluster"
    );
    far.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_turned_away_by_the_listener() {
    let authority = Authority::new();
    let (near, far) = two(&authority);
    let folder = tempfile::tempdir().unwrap();
    Authority::new().write(folder.path(), "c", "n3");
    authority.trusted_in(folder.path());
    assert_eq!(
        told(folder, &far).await,
        "it does not take this node's certificate: one of the two is a member of another cluster"
    );
    calls_are_answered(&near, &far).await;
    near.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn a_certificate_that_names_another_cluster_is_turned_away() {
    let authority = Authority::new();
    let far = Agent::start(&authority, "c", 1);
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path(), "d", "n2");
    assert_eq!(
        told(folder, &far).await,
        "it is a member of cluster c, this is cluster d"
    );
    far.stop().await;
}

#[tokio::test]
async fn another_version_is_told_so() {
    let (near, far) = two(&Authority::new());
    let mut stream = near.dialer.secure(far.address, Class::Raft).await.unwrap();
    let hello = Hello {
        version: VERSION + 1,
        cluster: "c".to_owned(),
        node: 2,
        name: "n2".to_owned(),
        class: Class::Raft,
    };
    let refused = handshake::introduce_as(&mut stream, &hello).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Refused(why) if why.contains("version 2")),
        "{refused}"
    );
    calls_are_answered(&near, &far).await;
    near.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn garbage_ends_its_own_connection_and_nothing_else() {
    let (near, far) = two(&Authority::new());
    let link = near.link(far.address);
    assert!(link.call(2, b"a".to_vec(), LIMIT).await.is_ok());

    // Before TLS, instead of the greeting, a frame too long, and garbage where a class' frames are due.
    let mut plain = tokio::net::TcpStream::connect(far.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    ends(plain).await;
    for garbage in [
        vec![0xff; 300],
        (FRAME_MAX as u32 + 1).to_le_bytes().to_vec(),
        vec![2, 0, 0, 0, 1, 0],
    ] {
        let mut stream = near.dialer.secure(far.address, Class::Raft).await.unwrap();
        stream.write_all(&garbage).await.unwrap();
        stream.flush().await.unwrap();
        ends(stream).await;
        for class in [Class::Raft, Class::Bulk] {
            let (mut stream, _) = near.dialer.dial(far.address, class).await.unwrap();
            stream.write_all(&garbage).await.unwrap();
            stream.flush().await.unwrap();
            ends(stream).await;
        }
    }
    assert_eq!(link.call(2, b"abc".to_vec(), LIMIT).await, Ok(b"cba".to_vec()));
    near.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn who_says_nothing_keeps_nobody_out() {
    let (near, far) = two(&Authority::new());
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(tokio::net::TcpStream::connect(far.address).await.unwrap());
    }
    let link = near.link(far.address);
    assert!(link.call(2, b"a".to_vec(), LIMIT).await.is_ok());
    // Long before it took too long.
    let mut first = silent.remove(0);
    let ended = tokio::time::timeout(Duration::from_secs(1), first.read(&mut [0])).await;
    assert!(!matches!(ended, Ok(Ok(1)) | Err(_)), "{ended:?}");
    near.stop().await;
    far.stop().await;
}

async fn ends<S: tokio::io::AsyncRead + Unpin>(mut stream: S) {
    let mut rest = Vec::new();
    // An error is as good an end as any.
    let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the connection goes on");
}

#[tokio::test]
async fn a_link_for_the_router_is_handed_over_with_nothing_of_tls_to_come() {
    let (near, mut far) = two(&Authority::new());
    let (mut stream, welcome) = near.dialer.dial(far.address, Class::Router).await.unwrap();
    assert_eq!(welcome.node, 2);
    let mut link = tokio::time::timeout(LIMIT, far.router_links.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((link.hello.node, link.hello.name.as_str()), (1, "n1"));
    assert!(!link.stream.get_ref().1.wants_write());
    stream.write_all(b"first").await.unwrap();
    stream.flush().await.unwrap();
    let mut first = [0; 5];
    link.stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"first");
    drop((stream, link));
    near.stop().await;
    far.stop().await;
}
