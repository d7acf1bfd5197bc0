//! Bad input: one sentence that says what to do, and nothing else is touched.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::{Cluster, MESH_PORT, START_LIMIT, binaries};
use pipes_chaos::command::{self, Finished, Input, tool};
use pipes_chaos::wamp::{Address, Session, Stream, map, pack};
use rmpv::Value;

/// A user's mistake is one sentence: `error: ...`, and no backtrace.
fn is_a_sentence(done: &Finished) {
    let text = done.errors();
    assert!(text.starts_with("error: "), "no `error: ` in {text:?}");
    assert!(
        !text.contains("panicked") && !text.contains("RUST_BACKTRACE") && !text.contains("Caused by"),
        "{text}"
    );
}

fn works(cluster: &Cluster) -> Result<()> {
    let done = cluster
        .run("cat | cat | cat")
        .input(Input::Bytes(b"fine\n".to_vec()))
        .finish()?
        .success()?;
    assert_eq!(done.output(), "fine\n");
    Ok(())
}

#[test]
fn an_unknown_service_is_named_with_the_nearest_and_the_way_to_make_it() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["sort", "cat"])?;
    let mark = cluster.file("mark");
    cluster.script("touch-it", &format!("#!/bin/sh\ntouch {}\n", mark.display()))?;
    let done = cluster
        .run("touch-it | sotr")
        .options(&["-n"])
        .finish()?
        .expect(127)?;
    is_a_sentence(&done);
    let text = done.errors();
    assert!(
        text.contains("sotr") && text.contains("sort") && text.contains("pipes build"),
        "{text}"
    );
    assert!(!mark.exists(), "a part of the line was run");
    for (line, advice) in [
        ("./none", "pipes build ./none, and call it none"),
        (
            "sort@00000000",
            "no one version of service 'sort' begins with 00000000; it has ",
        ),
    ] {
        let done = cluster.run(line).options(&["-n"]).finish()?.expect(127)?;
        is_a_sentence(&done);
        assert!(done.errors().contains(advice), "{}", done.errors());
    }
    cluster.finish()
}

#[test]
fn what_cannot_be_built_is_named_with_the_reason() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let text = cluster.write("notes.txt", b"only text\n")?;
    let empty = cluster.write("empty", b"")?;
    for path in [
        text.to_string_lossy().into_owned(),
        empty.to_string_lossy().into_owned(),
        "/no/such/file".into(),
        "/tmp".into(),
    ] {
        let done = cluster.attempt(&["build", &path])?.expect(1)?;
        is_a_sentence(&done);
        assert!(done.errors().contains(&path), "{}", done.errors());
    }
    let script = cluster.write("bad name", b"#!/bin/sh\n")?;
    Command::new("chmod").arg("+x").arg(&script).status()?;
    let done = cluster.attempt(&["build", &script.to_string_lossy()])?;
    assert!(
        done.code() != 0 && done.errors().contains("--name"),
        "{}",
        done.errors()
    );
    cluster.call(&["build", "--name", "good-name", &script.to_string_lossy()])?;
    cluster.run("good-name").options(&["-n"]).finish()?.success()?;
    cluster.finish()
}

#[test]
fn a_refused_line_shows_the_place() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat"])?;
    for line in [
        "cat $HOME",
        "cat `id`",
        "cat \"$X\"",
        "cat; cat",
        "cat & cat",
        "cat < file",
        "cat > file",
        "cat (x)",
        "cat || cat",
        "cat ~/x",
        "cat #x",
        "cat\ncat",
        "cat 'open",
        "cat \"open",
        "cat | ",
        " | cat",
        "cat | | cat",
        "",
    ] {
        let done = cluster
            .run(line)
            .options(&["-n"])
            .finish()?
            .expect(125)
            .with_context(|| format!("{line:?}"))?;
        is_a_sentence(&done);
        if !line.is_empty() {
            assert!(
                done.errors().contains('^'),
                "{line:?}: no place is shown: {}",
                done.errors()
            );
        }
    }
    let done = cluster.attempt(&["run", "-n", "cat", "|", "cat"])?;
    let text = done.errors();
    let shows_it_quoted = text.contains("\"cat | cat\"") || text.contains("'cat | cat'");
    assert!(
        done.code() == 125 && shows_it_quoted,
        "more than one argument: {} {text}",
        done.code()
    );
    cluster.finish()
}

#[test]
fn when_no_agent_answers_it_says_which_were_tried() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    cluster.kill(0)?;
    // One dead agent is skipped unseen.
    let done = cluster
        .run("cat | cat")
        .input(Input::Bytes(b"x".to_vec()))
        .finish()?
        .success()?;
    assert_eq!(done.errors(), "");
    cluster.kill_all().or_else(|_| cluster.kill_all())?;
    let done = cluster.run("cat").options(&["-n"]).finish()?.expect(125)?;
    is_a_sentence(&done);
    for node in &cluster.nodes {
        assert!(
            done.errors().contains(&node.address),
            "{} was not tried: {}",
            node.address,
            done.errors()
        );
    }
    let done = cluster.attempt(&["node", "ls"])?.expect(1)?;
    is_a_sentence(&done);
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    works(&cluster)?;
    cluster.finish()
}

#[test]
fn a_taken_port_is_named_with_the_option_that_changes_it() -> Result<()> {
    let address = "127.201.77.1";
    let taken = TcpListener::bind((address, 7072))?;
    let home = tempfile::tempdir_in("/tmp")?;
    let pipes = |arguments: &[&str]| {
        let mut command = Command::new(pipes_chaos::cluster::binaries().join("pipes"));
        command
            .args(arguments)
            .env("XDG_STATE_HOME", home.path())
            .env("XDG_CONFIG_HOME", home.path().join("c"));
        command
    };
    let init = pipes(&["init", "--local", "1", "--address", address]);
    let done = command::start(init, Input::None)?.finish_within(START_LIMIT)?;
    is_a_sentence(&done);
    let text = done.errors();
    assert!(
        done.code() == 1
            && text.contains("7072")
            && text.contains(&format!("(process {})", std::process::id()))
            && text.contains("--port wamp="),
        "{} {text}",
        done.code()
    );
    let left = pipes_chaos::proc::mentioning(&home.path().to_string_lossy());
    assert!(left.is_empty(), "agents were left behind: {left:?}");
    let init = pipes(&[
        "init",
        "--local",
        "1",
        "--address",
        address,
        "--port",
        "wamp=7999",
    ]);
    command::start(init, Input::None)?
        .finish_within(START_LIMIT)?
        .success()?;
    command::run(pipes(&["node", "ls"]), Input::None)?.success()?;
    command::run(pipes(&["cluster", "rm", "--yes"]), Input::None)?.success()?;
    let left = pipes_chaos::proc::mentioning(&home.path().to_string_lossy());
    assert!(left.is_empty(), "processes were left behind: {left:?}");
    drop(taken);
    Ok(())
}

#[test]
fn two_local_clusters_do_not_collide() -> Result<()> {
    let (one, other) = (Cluster::start(3)?, Cluster::start(3)?);
    for node in &one.nodes {
        assert!(
            !other.nodes.iter().any(|another| another.address == node.address),
            "{} twice",
            node.address
        );
    }
    assert_ne!(one.id, other.id);
    one.build(&["cat"])?;
    works(&one)?;
    let done = other.run("cat").options(&["-n"]).finish()?.expect(127)?;
    assert!(done.errors().contains("cat"), "{}", done.errors());
    other.build(&["cat"])?;
    works(&other)?;
    one.finish()?;
    works(&other)?;
    other.finish()
}

#[test]
fn malformed_frames_end_their_own_connection_alone() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    let wamp = Address::Tcp(cluster.nodes[0].wamp());
    let mesh = Address::Tcp(format!("{}:{MESH_PORT}", cluster.nodes[0].address));
    let mut witness = Session::join(&wamp, "default", "anonymous", None)?;
    let pid = cluster.nodes[0].pid()?;
    let noise = pipes_chaos::random::bytes(pipes_chaos::random::seed("noise"), 100_000);
    for address in [&wamp, &mesh] {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0x7f, 0xf0, 0, 0],
            &[0x7f, 0xf2, 1, 1],
            &noise,
            &[0x16, 3, 1, 255, 255],
        ] {
            ends(address, bytes)?;
        }
    }
    // After a right handshake: a frame of a kind there is not, one larger than was agreed, one that is no WAMP.
    for bytes in [
        vec![7, 0, 0, 1, 0],
        vec![0, 0xff, 0xff, 0xff],
        frame(b"\x00"),
        frame(&pack(&Value::Array(vec![999.into()]))),
        frame(&pack(&Value::Array(vec![
            48.into(),
            1.into(),
            map(vec![]),
            "com.x".into(),
        ]))),
        frame(&pack(&Value::Array(vec![
            1.into(),
            "no such realm".into(),
            map(vec![]),
        ]))),
    ] {
        let mut stream = Stream::connect(&wamp)?;
        stream.handshake()?;
        let mut sent = bytes.clone();
        sent.extend_from_slice(&noise[..100]);
        let _ = stream.write_all(&sent);
        assert!(closes(&mut stream), "{bytes:02x?} did not end its connection");
    }
    // In a session: what no client may send.
    for message in [
        Value::Array(vec![36.into(), 1.into(), 1.into(), map(vec![])]),
        Value::Array(vec![1.into(), "default".into(), map(vec![])]),
        Value::Array(vec![48.into(), "one".into(), map(vec![]), "com.x".into()]),
        Value::Array(vec![70.into(), 12345.into(), map(vec![])]),
    ] {
        let mut session = Session::join(&wamp, "default", "anonymous", None)?;
        session.send(&message)?;
        // Refused or ignored as the protocol says; never the end of more than this session.
        let _ = session.call("wamp.session.count", vec![], vec![]);
    }
    assert_eq!(
        witness.call("com.example.nothing", vec![], vec![])?.failed()?,
        "wamp.error.no_such_procedure"
    );
    assert_eq!(cluster.nodes[0].pid()?, pid);
    assert!(cluster.nodes.iter().all(pipes_chaos::cluster::Node::is_up));
    works(&cluster)?;
    cluster.finish()
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(message.len()).unwrap_or(0).to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

fn ends(address: &Address, bytes: &[u8]) -> Result<()> {
    let mut stream = Stream::connect(address)?;
    let _ = stream.write_all(bytes);
    assert!(
        closes(&mut stream),
        "{address:?}: {:02x?} did not end its connection",
        &bytes[..bytes.len().min(20)]
    );
    Ok(())
}

/// Whether the far side closes, whatever it says before; a session that is not yet one has 5 s.
fn closes(stream: &mut Stream) -> bool {
    let _ = stream.read_limit(Duration::from_secs(12));
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn a_member_of_another_cluster_is_turned_away() -> Result<()> {
    let (one, other) = (Cluster::start(1)?, Cluster::start(1)?);
    one.build(&["cat"])?;
    let mesh = format!("{}:{MESH_PORT}", one.nodes[0].address);
    let tls = other.nodes[0].folder.join("tls");
    let before = one.nodes[0].log().len();
    for with_certificate in [true, false] {
        let mut openssl = Command::new(tool("openssl")?);
        openssl.args(["s_client", "-connect", &mesh, "-tls1_3", "-brief"]);
        openssl.args(["-alpn", "pipes-router"]);
        if with_certificate {
            openssl
                .arg("-cert")
                .arg(tls.join("node.pem"))
                .arg("-key")
                .arg(tls.join("node.key"));
        }
        let done = command::start(openssl, Input::Open)?.finish_within(Duration::from_secs(15))?;
        println!("{} {}", done.output(), done.errors());
    }
    let log = one.nodes[0].log();
    let said = log.get(before..).unwrap_or_default().to_lowercase();
    assert!(
        said.contains("certificate"),
        "nothing about it in the log:\n{said}"
    );
    works(&one)?;
    one.finish()?;
    other.finish()
}

#[test]
fn wrong_usage_is_2_and_of_run_125() -> Result<()> {
    let cluster = Cluster::start(1)?;
    for arguments in [
        &["no-such-command"][..],
        &["service", "frobnicate"],
        &["ps", "--no-such-option"],
        &["build"],
    ] {
        cluster
            .attempt(arguments)?
            .expect(2)
            .with_context(|| format!("{arguments:?}"))?;
    }
    for arguments in [
        &["run"][..],
        &["run", "--no-such-option", "cat"],
        &["run", "--timeout", "soon", "cat"],
    ] {
        cluster
            .attempt(arguments)?
            .expect(125)
            .with_context(|| format!("{arguments:?}"))?;
    }
    for arguments in [
        &["inspect", "rnothing"][..],
        &["service", "rm", "nothing"],
        &["context", "use", "nothing"],
    ] {
        let done = cluster
            .attempt(arguments)?
            .expect(1)
            .with_context(|| format!("{arguments:?}"))?;
        is_a_sentence(&done);
        assert!(done.errors().contains("nothing"), "{}", done.errors());
    }
    cluster.finish()
}

#[test]
fn settings_that_cannot_be_read_are_named_with_their_line() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.kill(0)?;
    let path = cluster.nodes[0].folder.join("agent.toml");
    let sound = std::fs::read_to_string(&path)?;
    std::fs::write(&path, sound.replace("address =", "adress ="))?;
    let refused = Command::new(binaries().join("pipes-agent"))
        .args(["--config", &path.to_string_lossy()])
        .output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        !refused.status.success() && said.trim().lines().count() == 1,
        "{said}"
    );
    ensure!(said.contains("agent.toml, line "), "{said}");
    std::fs::write(&path, sound)?;
    cluster.start_again()?;
    cluster.finish()
}
