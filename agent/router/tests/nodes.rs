//! Routers in this process, and the links between them.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pipes_router::{Listener, Role, Router, RouterConfig};
use pipes_wamp::client::{Auth, Connection, Endpoint, Session, connect};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection as Tls, RootCertStore, ServerConfig, ServerConnection,
};
use tokio::time::timeout;

/// Longer than anything here takes.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A router with its three sockets; stops with the test.
pub struct RouterNode {
    pub router: Router,
    pub tcp: SocketAddr,
    pub operators: PathBuf,
    pub stages: PathBuf,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl RouterNode {
    pub fn start(node: u64) -> RouterNode {
        let folder = tempfile::tempdir().unwrap();
        let (operators, stages) = (
            folder.path().join("agent.sock"),
            folder.path().join("stages.sock"),
        );
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let tcp = listener.local_addr().unwrap();
        let listeners = vec![
            Listener::Tcp {
                listener,
                loopback: true,
                tls: tokio::sync::mpsc::channel(1).0,
            },
            Listener::Operators(UnixListener::bind(&operators).unwrap()),
            Listener::Stages(UnixListener::bind(&stages).unwrap()),
        ];
        // SAFETY: geteuid takes nothing and cannot fail.
        let agent_uid = unsafe { libc::geteuid() };
        let (router, thread) = Router::start(RouterConfig {
            node,
            listeners,
            agent_uid,
        })
        .unwrap();
        RouterNode {
            router,
            tcp,
            operators,
            stages,
            thread: Some(thread),
            _folder: folder,
        }
    }

    /// Two nodes with a link, each knowing of it.
    pub async fn pair() -> (RouterNode, RouterNode) {
        let (one, two) = (RouterNode::start(1), RouterNode::start(2));
        link(&one, 1, &two, 2);
        one.linked(2, true).await;
        two.linked(1, true).await;
        (one, two)
    }

    /// A session of the agent itself.
    pub fn agent(&self, realm: &str) -> Session {
        Session::start(Connection::welcomed(
            self.router.attach(realm, Role::Agent).unwrap().stream,
        ))
    }

    /// Messages as they are, from the agent itself.
    pub fn raw(&self, realm: &str) -> Connection {
        Connection::welcomed(self.router.attach(realm, Role::Agent).unwrap().stream)
    }

    /// Anybody in realm `default`, over TCP.
    pub async fn anybody(&self) -> Session {
        Session::start(
            connect(&Endpoint::Tcp(self.tcp), "default", &Auth::Anonymous)
                .await
                .unwrap(),
        )
    }

    /// Waits until there is a link to `peer`, or none.
    pub async fn linked(&self, peer: u64, is_there: bool) {
        let mut links = self.router.links();
        within(links.wait_for(|links| links.contains(&peer) == is_there))
            .await
            .unwrap();
    }
}

impl Drop for RouterNode {
    fn drop(&mut self) {
        self.router.shutdown();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// Waits, but not for ever.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("it takes too long")
}

/// Links two nodes; gives what a test needs to cut it.
pub fn link(
    one: &RouterNode,
    number_of_one: u64,
    two: &RouterNode,
    number_of_two: u64,
) -> (TcpStream, TcpStream) {
    let (client, server) = handshaken();
    let cut = (client.0.try_clone().unwrap(), server.0.try_clone().unwrap());
    drop(one.router.add_link(number_of_two, client.0, client.1));
    drop(two.router.add_link(number_of_one, server.0, server.1));
    cut
}

/// Two ends of a TLS connection after its handshake.
pub fn handshaken() -> ((TcpStream, Tls), (TcpStream, Tls)) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["node".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let name = ServerName::try_from("node").unwrap();
    let client = Tls::from(ClientConnection::new(Arc::new(client), name).unwrap());
    let server = Tls::from(ServerConnection::new(Arc::new(server)).unwrap());
    let handshake = |mut stream: TcpStream, mut tls: Tls| {
        while tls.is_handshaking() || tls.wants_write() {
            tls.complete_io(&mut stream).unwrap();
        }
        (stream, tls)
    };
    let serving = std::thread::spawn(move || handshake(accepted, server));
    let client = handshake(dialled, client);
    (client, serving.join().unwrap())
}
