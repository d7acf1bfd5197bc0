//! What a stage finds when it starts: its environment, folder, files, descriptors, signals and name.

use std::fs;

use rmpv::Value;

use crate::agent::{Agent, Options};
use crate::stage::{Stage, order, run};

fn bytes(text: &str) -> Value {
    Value::Binary(text.as_bytes().to_vec())
}

fn pair(name: &str, value: &str) -> Value {
    Value::Array(vec![bytes(name), bytes(value)])
}

#[test]
fn the_environment_is_its_own() {
    let mut agent = Agent::start(Options::default());
    let env = vec![pair("LANG", "C"), pair("PIPES_RUN", "forged"), pair("A", "b=c")];
    let order = order(
        "renv",
        &["-c", "pwd; env -u _ -u PWD | sort"],
        vec![("env", Value::Array(env))],
    );
    let mut stage = Stage::start_order(&mut agent, order, "renv");
    stage.until(&mut agent, "over", |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    stage.end(&mut agent);
    let text = String::from_utf8(stage.stdout).unwrap();
    let (folder, text) = text.split_once('\n').unwrap();
    assert!(folder.starts_with(agent.folder.path().join("scratch").to_str().unwrap()));
    let expected = format!(
        "A=b=c\nHOME={folder}\nLANG=C\nPATH=/usr/bin:/bin\nPIPES_ATTEMPT=1\nPIPES_NODE=cluster/1\n\
         PIPES_RUN=renv\nPIPES_SERVICE=sh\nPIPES_STAGE=1\nTMPDIR={folder}\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn the_folder_is_empty_writable_and_gone_afterwards() {
    let mut agent = Agent::start(Options::default());
    let script = "ls -A; mkdir -p a/b && touch a/b/c && chmod 500 a/b && umask && pwd";
    let stage = run(&mut agent, "rfolder", script, b"");
    let text = String::from_utf8(stage.stdout).unwrap();
    let (mask, folder) = text.trim().split_once('\n').unwrap();
    assert_eq!(mask, "0022");
    assert!(!fs::exists(folder).unwrap());
}

#[test]
fn descriptors_signals_and_session_are_as_they_should_be() {
    let mut agent = Agent::start(Options::default());
    let script = "ls /proc/self/fd | tr '\\n' ' '; grep -E '^Sig(Ign|Blk)' /proc/self/status | tr -d '\\n\\t'; \
                  echo; cut -d' ' -f5,6 /proc/$$/stat; echo $$; ulimit -n; cat /proc/self/oom_score_adj";
    let stage = run(&mut agent, "rfd", script, b"");
    let text = String::from_utf8(stage.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // 3 is the folder that `ls` reads.
    assert_eq!(lines[0], "0 1 2 3 SigBlk:0000000000000000SigIgn:0000000000000000");
    assert_eq!(lines[1], format!("{0} {0}", lines[2]));
    assert_eq!(lines[3], "1024");
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(lines[4].parse::<i32>().unwrap() > own || own == 1000);
    let shim = format!("/proc/{}/oom_score_adj", agent.shim.id());
    assert_eq!(fs::read_to_string(shim).unwrap().trim(), own.to_string());
}

#[test]
fn its_name_is_the_services() {
    let mut agent = Agent::start(Options {
        service: "greet.sh",
        ..Options::default()
    });
    let script = "tr '\\0' ' ' </proc/$$/cmdline | cut -c1-11; cat /proc/$$/comm";
    let stage = run(&mut agent, "rname", script, b"");
    assert_eq!(
        String::from_utf8(stage.stdout).unwrap(),
        "greet.sh -c\ngreet.sh\n"
    );
}

#[test]
fn standard_descriptors_are_pipes_that_open_again() {
    let mut agent = Agent::start(Options::default());
    let stage = run(
        &mut agent,
        "rdev",
        "cat /dev/stdin >/dev/stdout; echo err >/dev/stderr",
        b"again",
    );
    assert_eq!(
        (&stage.stdout[..], &stage.stderr[..]),
        (&b"again"[..], &b"err\n"[..])
    );
}

#[test]
fn the_token_is_nowhere_to_be_read() {
    let mut agent = Agent::start(Options::default());
    let environment = fs::read(format!("/proc/{}/environ", agent.shim.id())).unwrap();
    let text = String::from_utf8_lossy(&environment);
    assert!(
        text.contains("PIPES_NODE=cluster/1") && !text.contains("secret"),
        "{text}"
    );
    let stage = run(&mut agent, "rtoken", "env", b"");
    assert!(!String::from_utf8_lossy(&stage.stdout).contains("secret"));
}

#[test]
fn a_descriptor_that_its_caller_cannot_use_is_as_useless_to_a_stage() {
    let mut agent = Agent::start(Options::default());
    let stdin = "read x; echo $? >&2; ls -l /proc/self/fd/0 >&2";
    let stdout = "echo x; echo $? >&2";
    let stderr = "echo x >&2; echo $?";
    for (number, name, script, said) in [
        (0, "closed", "ls /proc/self/fd/0 >&2; exit 5", "cannot access"),
        (0, "wrong", stdin, "1\n"),
        (0, "folder", "ls -d /proc/self/fd/0/. >&2; cat", "Is a directory"),
        (1, "closed", stdout, "1\n"),
        (1, "wrong", stdout, "1\n"),
        (1, "full", stdout, "1\n"),
        (2, "closed", stderr, "2\n"),
        (2, "wrong", stderr, "1\n"),
        (2, "full", stderr, "1\n"),
    ] {
        let mut names = vec![Value::from("pipe"); 3];
        names[number] = name.into();
        let extra = vec![("descriptors", Value::Array(names))];
        let order = order("rstdio", &["-c", script], extra);
        let mut stage = Stage::start_order(&mut agent, order, "rstdio");
        stage.until(&mut agent, "over", |stage| {
            stage.exit.is_some() && stage.closed.is_some()
        });
        stage.end(&mut agent);
        let told =
            String::from_utf8_lossy([&stage.stdout[..], &stage.stderr].concat().as_slice()).into_owned();
        assert!(told.contains(said), "{number} {name}: {told:?}");
        // Where its pipe does not stand, its end is told all the same.
        assert!(stage.has_ended);
    }
}
