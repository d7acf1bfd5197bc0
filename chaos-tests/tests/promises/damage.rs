//! Whatever file of an agent is damaged, gone or unreadable: it is rebuilt, fetched, or refused in one sentence, and
//! nothing acknowledged is lost. Under load, on the leader and on a follower.
//!
//! The table of what becomes of each file is `raft/src/replica/damage.rs`. A row is a start of a killed agent; the next
//! victim is a leader and a follower in turn. `scripts/chaos` goes through all rows with both.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::{Cluster, START_LIMIT, WAMP_PORT};
use pipes_chaos::command::{self, Input};
use pipes_chaos::damage::{blobs, cut, flip, last, segments, state, written};
use pipes_chaos::store::Stored;
use pipes_chaos::wait::{let_pass, wait_for, wait_until};
use serde_json::Value;

/// Clients that write meanwhile, at the agents that live.
const WRITERS: usize = 4;
/// Writes before each damage.
const WRITES_BEFORE: u64 = 60;
/// By then the state has on disk what was applied before: its flusher waits for a second.
const STORED_AFTER: Duration = Duration::from_millis(1_500);
/// How long a node may take from `node reset` until it is a whole member.
const RESET_LIMIT: Duration = Duration::from_secs(30);

/// A kind of damage.
struct Row {
    what: &'static str,
    damage: Damage,
    outcome: Outcome,
}

enum Damage {
    /// Done to the files of a node in this folder, whose agent is dead.
    Files(fn(&Path) -> Result<()>),
    /// The same, once what was written before is in the state on disk as well.
    Stored(fn(&Path) -> Result<()>),
    /// The disk gives back nothing of this file or folder.
    Unreadable(&'static str),
    /// Nor of the state.
    UnreadableState,
}

enum Outcome {
    /// The node is up by itself.
    Whole,
    /// The same, and its agent says these words.
    WholeAfter(&'static str),
    /// Its agent goes on without a replica, and says these words, until it is reset.
    Sick(&'static [&'static str]),
    /// Its agent does not start, and says these words, until it is reset.
    Down(&'static [&'static str]),
}

use Damage::{Files, Stored as StoredFiles, Unreadable, UnreadableState};
use Outcome::{Down, Sick, Whole, WholeAfter};

const fn row(what: &'static str, damage: Damage, outcome: Outcome) -> Row {
    Row {
        what,
        damage,
        outcome,
    }
}

/// What is the node's own: its log, its vote, who it is.
const REFUSED: &[Row] = &[
    row(
        "the log's folder is gone",
        Files(|node| Ok(fs::remove_dir_all(node.join("raft/log"))?)),
        Sick(&["raft/log: the log of this node is gone"]),
    ),
    row(
        "the log is emptied",
        Files(|node| {
            segments(node)?
                .iter()
                .try_for_each(|path| Ok(fs::remove_file(path)?))
        }),
        Sick(&["raft/log: the log of this node is gone"]),
    ),
    row(
        "a byte in the middle of the log is another",
        Files(|node| flip(&last(segments(node)?)?, |end| end / 2)),
        Sick(&["raft/log/0000", "damaged at octet"]),
    ),
    row(
        "the log is cut short before what is applied",
        StoredFiles(|node| {
            let path = last(segments(node)?)?;
            let bytes = fs::read(&path)?;
            Ok(fs::write(&path, &bytes[..written(&bytes) / 4])?)
        }),
        Sick(&[
            "raft/log: it ends before entry",
            "what was acknowledged between is lost",
        ]),
    ),
    row(
        "the log cannot be read",
        Unreadable("raft/log"),
        Sick(&["raft/log", "Input/output error"]),
    ),
    row(
        "the identity is damaged",
        Files(|node| flip(&node.join("raft/identity"), |end| end / 2)),
        Sick(&["raft/identity: damaged at octet"]),
    ),
    row(
        "the identity is gone",
        Files(|node| Ok(fs::remove_file(node.join("raft/identity"))?)),
        Sick(&["raft/identity: it is gone"]),
    ),
    row(
        "the identity cannot be read",
        Unreadable("raft/identity"),
        Sick(&["raft/identity", "Input/output error"]),
    ),
    row(
        "the whole store is gone",
        Files(|node| Ok(fs::remove_dir_all(node.join("raft"))?)),
        Sick(&["/raft: it is empty, and", "is lost"]),
    ),
    row(
        "the key of TLS is damaged",
        Files(|node| flip(&node.join("tls/node.key"), |end| end / 2)),
        Down(&["tls"]),
    ),
    row(
        "the key of TLS is gone",
        Files(|node| Ok(fs::remove_file(node.join("tls/node.key"))?)),
        Down(&["tls/node.key"]),
    ),
    row(
        "the certificate is cut short",
        Files(|node| cut(&node.join("tls/node.pem"))),
        Down(&["tls/node.pem"]),
    ),
];

/// What can be made anew of the rest, or fetched.
const REBUILT: &[Row] = &[
    row(
        "the log's last frame is torn",
        Files(|node| {
            let path = last(segments(node)?)?;
            let bytes = fs::read(&path)?;
            Ok(fs::write(&path, &bytes[..written(&bytes) - 3])?)
        }),
        Whole,
    ),
    row(
        "a byte of the state is another",
        Files(|node| flip(&state(node)?.join("db"), |end| end / 3)),
        Whole,
    ),
    row(
        "a byte of what is stored is another",
        Files(|node| flip(&state(node)?.join("blocks.1"), |end| end / 2)),
        WholeAfter("the state is set aside"),
    ),
    row(
        "the state is cut short",
        Files(|node| {
            let path = state(node)?.join("db");
            let bytes = fs::read(&path)?;
            Ok(fs::write(&path, &bytes[..100])?)
        }),
        WholeAfter("the state is set aside"),
    ),
    row(
        "the state is gone",
        Files(|node| Ok(fs::remove_dir_all(state(node)?)?)),
        Whole,
    ),
    row(
        "the state cannot be read",
        UnreadableState,
        WholeAfter("the state is set aside"),
    ),
    row(
        "the snapshots are gone",
        Files(|node| Ok(fs::remove_dir_all(node.join("raft/snapshots"))?)),
        Whole,
    ),
    row(
        "what lies among the snapshots is none",
        Files(|node| {
            let path = node.join("raft/snapshots/00000000000000000007.snap");
            Ok(fs::write(path, "damaged")?)
        }),
        Whole,
    ),
    row(
        "the locks are gone",
        Files(|node| {
            fs::remove_file(node.join("lock"))?;
            Ok(fs::remove_file(node.join("raft/lock"))?)
        }),
        Whole,
    ),
    row(
        "the folders of replicas and of logs are gone",
        Files(|node| {
            fs::remove_dir_all(node.join("replicas"))?;
            Ok(fs::remove_dir_all(node.join("logs"))?)
        }),
        Whole,
    ),
    row(
        "a blob is cut short",
        Files(|node| blobs(node)?.iter().try_for_each(|path| cut(path))),
        Whole,
    ),
    row(
        "a byte of a blob is another",
        Files(|node| blobs(node)?.iter().try_for_each(|path| flip(path, |end| end / 2))),
        Whole,
    ),
    row(
        "the blobs are gone",
        Files(|node| Ok(fs::remove_dir_all(node.join("blobs"))?)),
        Whole,
    ),
];

#[test]
fn what_is_a_nodes_own_is_refused_when_damaged_until_it_is_reset() -> Result<()> {
    go_through(REFUSED)
}

#[test]
fn what_others_or_the_log_have_is_made_anew_when_damaged() -> Result<()> {
    go_through(REBUILT)
}

const GREET: &str = "#!/bin/sh\necho hello\necho to you\n";

/// A cluster through rows of damage, and what it acknowledged meanwhile.
struct Trial {
    cluster: Cluster,
    acknowledged: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    begun: AtomicU64,
    answered: AtomicU64,
}

fn go_through(rows: &[Row]) -> Result<()> {
    let trial = Trial {
        cluster: Cluster::start_recorded(3, &[])?,
        acknowledged: Mutex::default(),
        begun: AtomicU64::new(0),
        answered: AtomicU64::new(0),
    };
    trial.cluster.script("greet", GREET)?;
    let turns = super::repetitions(1).min(2);
    for (number, row) in rows.iter().enumerate() {
        for turn in 0..turns {
            let is_leader = (number + turn) % 2 == 0;
            let begun = Instant::now();
            trial.damage(row, is_leader).with_context(|| {
                let whose = if is_leader { "the leader's" } else { "a follower's" };
                format!("{whose}: {}", row.what)
            })?;
            println!("{}, leader {is_leader}: {:.1?}", row.what, begun.elapsed());
        }
    }
    trial.check()?;
    trial.cluster.finish()
}

impl Trial {
    fn damage(&self, row: &Row, is_leader: bool) -> Result<()> {
        let leader = self.cluster.leader()?;
        let victim = if is_leader { leader } else { (leader + 1) % 3 };
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (node, stop) = ((victim + 1 + writer % 2) % 3, &stop);
                scope.spawn(move || self.write_until(node, stop));
            }
            let through = self.go_on().and_then(|()| self.victim(row, victim));
            stop.store(true, Ordering::Relaxed);
            through
        })
    }

    fn victim(&self, row: &Row, victim: usize) -> Result<()> {
        let (cluster, node) = (&self.cluster, &self.cluster.nodes[victim]);
        if matches!(row.damage, StoredFiles(_)) {
            let_pass(STORED_AFTER);
        }
        cluster.kill(victim)?;
        let log_before = node.log().len();
        let recording = cluster.recording.as_ref().context("a recording")?;
        match row.damage {
            Files(damage) | StoredFiles(damage) => damage(&node.folder)?,
            Unreadable(path) => recording.set_faults(&node.name, &format!("read {path} EIO\n"))?,
            UnreadableState => {
                let path = state(&node.folder)?;
                let path = path.strip_prefix(&node.folder)?.display();
                recording.set_faults(&node.name, &format!("read {path} EIO\n"))?;
            }
        }
        let started = command::start(cluster.pipes(&["cluster", "start"]), Input::None)?;
        let started = started.finish_within(2 * START_LIMIT)?;
        let said = || node.log()[log_before..].to_owned();
        match row.outcome {
            Whole | WholeAfter(_) => {
                started.success()?;
                recording.set_faults(&node.name, "")?;
                if let WholeAfter(words) = row.outcome {
                    ensure!(said().contains(words), "{words} is not in {}", said());
                }
            }
            Sick(words) => {
                let warned = started.success()?.errors();
                let state = self.state(victim)?;
                let reason = state["reason"].as_str().unwrap_or_default().to_owned();
                ensure!(state["state"] == "sick", "{state}");
                let advice = format!("`pipes node reset {}`", node.name);
                for word in words.iter().copied().chain([&*advice]) {
                    for (place, text) in [("node ls", &reason), ("stderr", &said()), ("start", &warned)] {
                        ensure!(text.contains(word), "{word} is not in {place}: {text}");
                    }
                }
                self.works_without_replica(victim)?;
                self.reset(victim)?;
            }
            Down(words) => {
                let errors = started.errors();
                ensure!(started.code() == 1, "it started");
                let advice = format!("`pipes node reset {}`", node.name);
                for word in words.iter().copied().chain([&*advice]) {
                    ensure!(errors.contains(word), "{word} is not in {errors}");
                    ensure!(said().contains(word), "{word} is not in {}", said());
                }
                self.reset(victim)?;
            }
        }
        ensure!(!said().contains("panicked"), "{}", said());
        self.serves(victim)
    }

    /// An agent without a replica builds and runs as any other does.
    fn works_without_replica(&self, node: usize) -> Result<()> {
        let name = format!("greet{}", self.begun.load(Ordering::Relaxed));
        let agent = format!("{}:{WAMP_PORT}", self.cluster.nodes[node].address);
        let path = self.cluster.write(&name, GREET.as_bytes())?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        for arguments in [
            &["build", &*path.to_string_lossy()][..],
            &[
                "run",
                "-n",
                "--place",
                &format!("1={}", self.cluster.nodes[node].name),
                &name,
            ][..],
        ] {
            let mut command = self.cluster.pipes(arguments);
            command.env("PIPES_AGENT", &agent);
            command::run(command, Input::None)?
                .success()
                .with_context(|| format!("{arguments:?} by the agent without a replica"))?;
        }
        Ok(())
    }

    fn reset(&self, victim: usize) -> Result<()> {
        let (cluster, node) = (&self.cluster, &self.cluster.nodes[victim]);
        let begun = Instant::now();
        // What the disk does not give back is another disk's by then.
        cluster
            .recording
            .as_ref()
            .context("a recording")?
            .set_faults(&node.name, "")?;
        cluster.call(&["node", "reset", &node.name])?;
        cluster.all_up(RESET_LIMIT)?;
        wait_for(
            "it has a vote",
            RESET_LIMIT.saturating_sub(begun.elapsed()),
            || {
                let state = self.state(victim)?;
                ensure!(
                    matches!(state["role"].as_str(), Some("voter" | "leader")),
                    "{state}"
                );
                Ok(())
            },
        )?;
        ensure!(begun.elapsed() < RESET_LIMIT, "it took {:?}", begun.elapsed());
        Ok(())
    }

    fn state(&self, node: usize) -> Result<Value> {
        let nodes = self.cluster.json(&["node", "ls"])?;
        let name = &self.cluster.nodes[node].name;
        let all = nodes.as_array().context("an array")?;
        let named: Vec<_> = all.iter().filter(|node| node["name"] == **name).collect();
        ensure!(
            named.len() == 1,
            "{name} stands there {} times: {nodes}",
            named.len()
        );
        Ok(named[0].clone())
    }

    /// The node answers, and runs the very script that was built.
    fn serves(&self, node: usize) -> Result<()> {
        self.cluster.all_up(START_LIMIT)?;
        wait_for("a read", START_LIMIT, || self.cluster.store(node)?.revision())?;
        let name = &*self.cluster.nodes[node].name;
        let done = self
            .cluster
            .run("greet")
            .options(&["-n", "--fresh"])
            .placed(&[name])
            .finish();
        let output = done?.success()?.output();
        ensure!(output == "hello\nto you\n", "{output:?}");
        Ok(())
    }

    /// Waits until more is acknowledged.
    fn go_on(&self) -> Result<()> {
        let enough = self.answered.load(Ordering::Relaxed) + WRITES_BEFORE;
        wait_until("writes are acknowledged", START_LIMIT, || {
            self.answered.load(Ordering::Relaxed) >= enough
        })?;
        Ok(())
    }

    fn write_until(&self, node: usize, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let Ok(mut client) = self.cluster.store(node) else {
                continue;
            };
            while !stop.load(Ordering::Relaxed) {
                let serial = self.begun.fetch_add(1, Ordering::Relaxed);
                let (key, value) = (format!("test/{serial:08}"), format!("{serial:020}"));
                if client.put(&key, value.as_bytes()).is_err() {
                    break;
                }
                if let Ok(mut acknowledged) = self.acknowledged.lock() {
                    acknowledged.insert(key.into_bytes(), value.into_bytes());
                }
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Every replica holds what was acknowledged, and all the same.
    fn check(&self) -> Result<()> {
        let revision = wait_for("a read", START_LIMIT, || self.cluster.store(0)?.revision())?;
        for node in 0..3 {
            let replica = || self.cluster.store(node)?.replica(revision);
            let replica = wait_for("a replica has it all", START_LIMIT, replica)?;
            let found: BTreeMap<&[u8], &[u8]> = replica
                .iter()
                .map(|Stored { key, value, .. }| (&key[..], &value[..]))
                .collect();
            let acknowledged = self
                .acknowledged
                .lock()
                .map_err(|_| anyhow::anyhow!("a writer panicked"))?;
            let lost = acknowledged
                .iter()
                .filter(|(key, value)| found.get(&key[..]) != Some(&&value[..]));
            let lost = lost.count();
            ensure!(
                lost == 0,
                "{lost} of {} are lost at n{}",
                acknowledged.len(),
                node + 1
            );
        }
        let checked = self.cluster.call(&["cluster", "check"])?;
        ensure!(checked.contains("n1, n2, n3 hold the same"), "{checked}");
        Ok(())
    }
}
