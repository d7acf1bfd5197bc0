//! Who may do what: a stage that speaks WAMP itself, and clients that nobody knows.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use pipes_chaos::cluster::{Cluster, MESH_PORT, WAMP_PORT};
use pipes_chaos::command::{self, Input, tool};
use pipes_chaos::wait::{let_pass, wait_for};
use pipes_chaos::wamp::{Address, Session, Stream};

/// What a shim is given at its start, as its agent hands it over.
struct Credentials {
    replica: String,
    token: String,
    node_number: String,
}

/// Watches an agent start its first replica: the shim wipes its environment, but execve shows it.
fn overheard(cluster: &Cluster, node: usize) -> Result<Credentials> {
    let file = cluster.file("execve");
    let pid = cluster.nodes[node].pid()?;
    let mut strace = Command::new(tool("strace")?);
    strace
        .args(["-f", "-v", "-s", "4096", "-e", "trace=execve", "-o"])
        .arg(&file)
        .args(["-p", &pid.to_string()]);
    let strace = command::start(strace, Input::None)?;
    wait_for("strace follows the agent", Duration::from_secs(10), || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let traced = status
            .lines()
            .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
        anyhow::ensure!(traced, "not yet");
        Ok(())
    })?;
    let_pass(Duration::from_millis(500));
    let name = cluster.nodes[node].name.clone();
    cluster
        .run("cat | cat")
        .placed(&[&name, &name])
        .options(&["-n"])
        .finish()?
        .success()?;
    let found = wait_for("the shim's start in the trace", Duration::from_secs(5), || {
        let text = std::fs::read_to_string(&file)?;
        let line = text
            .lines()
            .find(|line| line.contains("\"PIPES_TOKEN="))
            .context("no PIPES_TOKEN in the trace")?;
        let value = |name: &str| -> Result<String> {
            let (_, rest) = line
                .split_once(&format!("\"{name}="))
                .with_context(|| name.to_owned())?;
            Ok(rest.split_once('"').context("a value's end")?.0.to_owned())
        };
        Ok(Credentials {
            replica: value("PIPES_REPLICA")?,
            token: value("PIPES_TOKEN")?,
            node_number: value("PIPES_NODE_NUMBER")?,
        })
    });
    strace.signal(libc::SIGINT)?;
    strace.finish_within(Duration::from_secs(10))?;
    found
}

#[test]
fn a_stage_gets_no_session_without_its_services_token() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    let credentials = overheard(&cluster, 0)?;
    let socket = Address::Unix(cluster.nodes[0].stages_socket());
    for realm in ["pipes.stages", "pipes", "default", "nonsense"] {
        assert!(
            Session::join(&socket, realm, "anonymous", None).is_err(),
            "anonymous was let into {realm}"
        );
    }
    for (authid, ticket) in [
        (credentials.replica.as_str(), "wrong"),
        ("nobody", credentials.token.as_str()),
        ("", ""),
    ] {
        let joined = Session::join(&socket, "pipes.stages", "ticket", Some((authid, ticket)));
        assert!(joined.is_err(), "{authid:?} was let in with {ticket:?}");
    }
    let joined = Session::join(
        &socket,
        "pipes",
        "ticket",
        Some((&credentials.replica, &credentials.token)),
    );
    assert!(joined.is_err(), "a shim's token opened the operators' realm");
    cluster.finish()
}

#[test]
fn a_stage_with_its_token_has_no_rights_but_its_replicas() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    let credentials = overheard(&cluster, 0)?;
    let socket = Address::Unix(cluster.nodes[0].stages_socket());
    let mut session = wait_for(
        "a session with the handed-over token",
        Duration::from_secs(5),
        || {
            Session::join(
                &socket,
                "pipes.stages",
                "ticket",
                Some((&credentials.replica, &credentials.token)),
            )
        },
    )?;
    let node = &credentials.node_number;
    let foreign = [
        "com.example.mine".to_owned(),
        "pipes.run.start".to_owned(),
        format!("pipes.node.{node}.executor.prepare"),
        format!("pipes.node.{node}.replica.other.stage"),
        format!("pipes.node.{node}.replica.{}.more", credentials.replica),
        format!("pipes.node.99.replica.{}.stage", credentials.replica),
    ];
    for procedure in &foreign {
        let refused = session.register(procedure)?;
        assert_eq!(
            refused,
            Err("wamp.error.not_authorized".to_owned()),
            "registering {procedure}"
        );
    }
    let calls = [
        "com.example.other".to_owned(),
        "pipes.run.start".to_owned(),
        "pipes.store.range".to_owned(),
        "wamp.session.count".to_owned(),
        format!("pipes.node.{node}.executor.prepare"),
        format!("pipes.node.{node}.replica.{}.pipe", credentials.replica),
    ];
    for procedure in &calls {
        let uri = session.call(procedure, vec![], vec![])?.failed()?;
        assert_eq!(uri, "wamp.error.not_authorized", "calling {procedure}");
    }
    // Nothing else was touched.
    let done = cluster
        .run("cat | cat")
        .input(Input::Bytes(b"as before\n".to_vec()))
        .finish()?
        .success()?;
    assert_eq!(done.output(), "as before\n");
    cluster.finish()
}

#[test]
fn a_stranger_on_loopback_gets_realm_default_alone() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    for node in &cluster.nodes {
        let tcp = Address::Tcp(node.wamp());
        Session::join(&tcp, "default", "anonymous", None)
            .context("realm default takes everybody on loopback")?;
        for realm in ["pipes", "pipes.stages", "pipes.other", ""] {
            let refused = Session::join(&tcp, realm, "anonymous", None).err();
            let why = refused
                .with_context(|| format!("a stranger was let into {realm:?}"))?
                .to_string();
            assert!(why.starts_with("ABORT wamp.error."), "{realm:?}: {why}");
        }
        for (authid, ticket) in [("root", "guessed"), ("n1", "")] {
            let joined = Session::join(&tcp, "pipes", "ticket", Some((authid, ticket)));
            assert!(joined.is_err(), "a guessed ticket opened realm pipes");
        }
        // Every port that the agent listens on, whatever it speaks.
        for port in listening(&node.address)? {
            for realm in ["pipes", "pipes.stages"] {
                let address = Address::Tcp(format!("{}:{port}", node.address));
                if port != WAMP_PORT && !speaks_rawsocket(&address) {
                    continue;
                }
                let joined = Session::join(&address, realm, "anonymous", None);
                assert!(joined.is_err(), "port {port} let a stranger into {realm}");
            }
        }
    }
    // A stranger may use realm default for himself, but not what is Pipes' own.
    let mut stranger = Session::join(
        &Address::Tcp(cluster.nodes[0].wamp()),
        "default",
        "anonymous",
        None,
    )?;
    for procedure in ["pipes.run.start", "pipes.node.1.executor.prepare", "wamp.mine"] {
        let refused = stranger.register(procedure)?;
        assert!(refused.is_err(), "a stranger registered {procedure}");
    }
    let uri = stranger.call("pipes.node.list", vec![], vec![])?.failed()?;
    assert!(uri.starts_with("wamp.error."), "{uri}");
    cluster.finish()
}

fn listening(address: &str) -> Result<Vec<u16>> {
    let mut ss = Command::new(tool("ss")?);
    ss.args(["-tlHn", "src", address]);
    let text = command::run(ss, Input::None)?.success()?.output();
    let ports: Vec<u16> = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3)?.rsplit_once(':')?.1.parse().ok())
        .collect();
    assert!(
        ports.contains(&WAMP_PORT) && ports.contains(&MESH_PORT),
        "{address} listens on {ports:?}"
    );
    Ok(ports)
}

fn speaks_rawsocket(address: &Address) -> bool {
    Stream::connect(address)
        .and_then(|mut stream| {
            stream.read_limit(Duration::from_secs(6))?;
            stream.handshake()
        })
        .is_ok()
}

#[test]
fn a_token_opens_realm_pipes_until_it_is_removed() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let token = cluster.call(&["token", "create", "robot"])?.trim().to_owned();
    for node in &cluster.nodes {
        let socket = Address::Unix(node.socket());
        let mut session = wait_for("the token is known everywhere", Duration::from_secs(5), || {
            Session::join(&socket, "pipes", "ticket", Some(("robot", &token)))
        })?;
        session.call("pipes.node.list", vec![], vec![])?.done()?;
        let uri = session
            .call("pipes.node.1.executor.release", vec![], vec![])?
            .failed()?;
        assert_eq!(uri, "wamp.error.not_authorized");
        assert!(
            session.register("com.example.mine")?.is_err(),
            "an operator registered a procedure"
        );
    }
    cluster.call(&["token", "rm", "robot"])?;
    wait_for("the token is forgotten", Duration::from_secs(5), || {
        let socket = Address::Unix(cluster.nodes[1].socket());
        let joined = Session::join(&socket, "pipes", "ticket", Some(("robot", &token)));
        anyhow::ensure!(joined.is_err(), "a removed token still opens realm pipes");
        Ok(())
    })?;
    cluster.finish()
}
