//! Replicas whose shim is a shell script, which does for the little that the executor sees of one.

use pipes_protocol::supply::Kind;

use super::*;
use std::time::Instant;

/// An agent that lets everybody in; a replica is registered when its script made the file `registered`.
struct World {
    folder: tempfile::TempDir,
    expelled: Arc<Mutex<Vec<String>>>,
    admitted: Arc<Mutex<HashMap<String, [u8; 32]>>>,
    lifecycle: Lifecycle,
    process: Process,
}

struct ThisAgent {
    folder: PathBuf,
    expelled: Arc<Mutex<Vec<String>>>,
    admitted: Arc<Mutex<HashMap<String, [u8; 32]>>>,
}

#[async_trait::async_trait]
impl Host for ThisAgent {
    async fn executable(&self, digest: &str) -> Result<Executable, String> {
        if digest == "gone" {
            Err("no node has it".into())
        } else {
            Ok(Executable {
                path: "/blobs/ab".into(),
                used: Box::new(()),
            })
        }
    }

    fn admit(&self, replica: &str, ticket: [u8; 32]) {
        self.admitted.lock().unwrap().insert(replica.to_owned(), ticket);
    }

    fn expel(&self, replica: &str) {
        self.expelled.lock().unwrap().push(replica.to_owned());
        // Its session's end, as the script sees it.
        fs::write(self.folder.join(format!("replicas/{replica}/end")), "").ok();
    }

    fn registered(&self, replica: &str) -> oneshot::Receiver<()> {
        let path = self.folder.join(format!("replicas/{replica}/registered"));
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            wait_until(|| path.exists()).await;
            let _ = sender.send(());
        });
        receiver
    }
}

async fn wait_until(what: impl Fn() -> bool) {
    let started = Instant::now();
    while !what() {
        assert!(started.elapsed() < Duration::from_secs(20), "it does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn world(script: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let shim = folder.path().join("shim");
    let ending = "while [ ! -e $PIPES_SCRATCH/end ]; do /bin/sleep 0.02; done";
    fs::write(&shim, format!("#!/bin/sh\n{}\n", script.replace("WAIT", ending))).unwrap();
    std::os::unix::fs::symlink("/bin/sh", folder.path().join("sh")).unwrap();
    let mut permissions = fs::metadata(&shim).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(&shim, permissions).unwrap();
    let node = Node {
        cluster_id: format!("process-{}", folder.path().file_name().unwrap().to_str().unwrap()),
        id: 3,
        shim,
        socket: "/run/stages/agent.sock".into(),
        replicas: folder.path().join("replicas"),
    };
    let (expelled, admitted) = (
        Arc::<Mutex<Vec<String>>>::default(),
        Arc::<Mutex<HashMap<_, _>>>::default(),
    );
    let host = ThisAgent {
        folder: folder.path().to_owned(),
        expelled: expelled.clone(),
        admitted: admitted.clone(),
    };
    let lifecycle = Lifecycle::new();
    let cgroups = Cgroups::open(&node.cluster_id, node.id);
    let process = Process::open(node, Box::new(host), cgroups, lifecycle.clone()).unwrap();
    World {
        folder,
        expelled,
        admitted,
        lifecycle,
        process,
    }
}

impl World {
    fn spec(&self, replica: &str, digest: &str) -> ReplicaSpec {
        ReplicaSpec {
            replica: replica.into(),
            kind: Kind {
                service: "cat".into(),
                digest: digest.into(),
            },
            slots: 4,
            window: 1 << 20,
        }
    }

    /// Nothing of any replica is left: no task, no folder.
    async fn ends_clear(self) {
        assert!(self.lifecycle.stop(Duration::from_secs(10)).await);
        assert_eq!(
            fs::read_dir(self.folder.path().join("replicas")).unwrap().count(),
            0
        );
    }
}

const REGISTER: &str = ": > $PIPES_SCRATCH/registered";

#[tokio::test]
async fn a_replica_is_given_what_it_needs_and_nothing_else() {
    // The sixth field of stat is the session (proc(5)); a small system has no ps.
    let world = world(&format!(
        "/usr/bin/env > $PIPES_SCRATCH/../../env; \
         read -r _ _ _ _ _ session _ </proc/$$/stat; echo $session > $PIPES_SCRATCH/../../session\n\
         cat > $PIPES_SCRATCH/../../stdin; echo $$ > $PIPES_SCRATCH/../../pid; {REGISTER}; WAIT"
    ));
    let ended = world.process.start(&world.spec("x1", "ab")).await.unwrap();
    let read = |name: &str| fs::read_to_string(world.folder.path().join(name)).unwrap();
    let env = read("env");
    let value = |name: &str| {
        env.lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")))
    };
    assert_eq!(value("PIPES_REPLICA"), Some("x1"));
    assert_eq!(value("PIPES_SOCKET"), Some("/run/stages/agent.sock"));
    assert!(value("PIPES_NODE").unwrap().ends_with("/3"));
    assert_eq!(
        (value("PIPES_NODE_NUMBER"), value("PIPES_SLOTS")),
        (Some("3"), Some("4"))
    );
    assert_eq!(
        (value("PIPES_SERVICE"), value("PIPES_EXECUTABLE")),
        (Some("cat"), Some("/blobs/ab"))
    );
    let ticket: [u8; 32] = Sha256::digest(value("PIPES_TOKEN").unwrap()).into();
    assert_eq!(world.admitted.lock().unwrap()["x1"], ticket);
    for line in env.lines().filter(|line| !line.starts_with("PIPES_")) {
        assert!(
            ["PATH=", "PWD=", "_=", "SHLVL=", "OLDPWD="]
                .iter()
                .any(|known| line.starts_with(known)),
            "{line}"
        );
    }
    assert_eq!(
        read("session").trim(),
        read("pid").trim(),
        "its session is its own"
    );
    assert_eq!(read("stdin"), "");
    if let Some(group) = value("PIPES_CGROUP") {
        let members = fs::read_to_string(format!("{group}/cgroup.procs")).unwrap();
        assert!(
            members.lines().any(|pid| pid == read("pid").trim()),
            "it is in its group"
        );
    }
    world.process.stop("x1");
    assert_eq!(ended.await.unwrap(), "it was stopped");
    assert_eq!(*world.expelled.lock().unwrap(), ["x1"]);
    world.ends_clear().await;
}

#[tokio::test]
async fn replicas_have_a_ticket_each_also_those_of_one_version() {
    let world = world(&format!("{REGISTER}; WAIT"));
    for replica in ["x1", "x2"] {
        let _ended = world.process.start(&world.spec(replica, "ab")).await.unwrap();
        world.process.stop(replica);
    }
    let admitted = world.admitted.lock().unwrap().clone();
    assert_ne!(admitted["x1"], admitted["x2"]);
    world.ends_clear().await;
}

#[tokio::test]
async fn a_shim_that_dies_is_told_with_its_status() {
    let world = world("exit 3");
    let error = world.process.start(&world.spec("x1", "ab")).await.unwrap_err();
    assert!(error.to_string().contains("exit status: 3"), "{error}");
    world.ends_clear().await;
}

#[tokio::test]
async fn a_replica_that_ends_by_itself_is_noticed() {
    let world = world(&format!(
        "{REGISTER}; while [ ! -e $PIPES_SCRATCH/../../die ]; do /bin/sleep 0.02; done; kill -9 $$"
    ));
    let ended = world.process.start(&world.spec("x1", "ab")).await.unwrap();
    fs::write(world.folder.path().join("die"), "").unwrap();
    assert!(ended.await.unwrap().contains("signal: 9"));
    world.ends_clear().await;
}

#[tokio::test]
async fn an_executable_that_no_node_has_starts_nothing() {
    let world = world("exit 3");
    let error = world.process.start(&world.spec("x1", "gone")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the executable gone cannot be had: no node has it"
    );
    world.ends_clear().await;
}

#[tokio::test]
async fn one_that_is_stopped_while_it_starts_is_gone_too() {
    let world = world("WAIT");
    let spec = world.spec("x1", "ab");
    let starting = world.process.start(&spec);
    let stopping = async {
        wait_until(|| world.folder.path().join("replicas/x1").exists()).await;
        world.process.stop("x1");
    };
    let (started, ()) = tokio::join!(starting, stopping);
    assert_eq!(started.unwrap_err(), StartError::Stopped);
    world.ends_clear().await;
}

#[tokio::test]
async fn nothing_comes_up_once_the_agent_stops() {
    let world = world(&format!("{REGISTER}; WAIT"));
    world.lifecycle.stopping().cancel();
    let error = world.process.start(&world.spec("x1", "ab")).await.unwrap_err();
    assert_eq!(error, StartError::Stopped);
    world.ends_clear().await;
}

#[tokio::test]
async fn a_shim_that_does_not_end_is_killed_with_what_it_started() {
    let world = world(&format!(
        "trap '' TERM HUP; /bin/sleep 1000 & echo $! > $PIPES_SCRATCH/../../child; {REGISTER}; while :; do /bin/sleep 1000; done"
    ));
    let ended = world.process.start(&world.spec("x1", "ab")).await.unwrap();
    let child = fs::read_to_string(world.folder.path().join("child")).unwrap();
    let has_group = fs::read_to_string(format!("/proc/{}/cgroup", child.trim()))
        .unwrap()
        .contains("/x1");
    world.process.stop("x1");
    ended.await.unwrap();
    let pid = child.trim().parse().unwrap();
    if has_group {
        // Gone, or a zombie that its new parent has not waited for yet.
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z"), "{state}");
    } else {
        // SAFETY: kill takes no pointers; the process is this test's own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    world.ends_clear().await;
}
