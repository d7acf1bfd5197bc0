//! The parts of each crate, from the top down: a part uses those that stand after it, and none before it.
//!
//! A part is a file or a folder. Each table names all parts that its folder has, so a new part is given its place here.
//! `FOLDER/FILE` gives a file of a folder a place of its own: what happens to a client stands above the state, what a
//! client is below it. `lib.rs`, `main.rs` and `mod.rs` are what holds the parts, and have none.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{self, Files, none};
use crate::uses;

/// Where each crate's source is.
pub const SOURCES: [&str; 16] = [
    "raft/src",
    "agent/src",
    "agent/router/src",
    "agent/wamp/src",
    "agent/flow/src",
    "agent/folder/src",
    "agent/membership/src",
    "agent/protocol/src",
    "agent/job/src",
    "agent/syntax/src",
    "agent/shim/src",
    "cli/src",
    "chaos-tests/src",
    "chaos-tests/preload/src",
    "chaos-tests/sim/src",
    "chaos-tests/sim/seam/src",
];

/// Folders, and their parts from the top down.
const LAYERS: [(&str, &str); 18] = [
    (
        "raft/src",
        "sim node client replica consensus state snapshot log rpc mvcc format type_config command request room options clock task error",
    ),
    (
        "agent/src",
        "agent api gateway workflow service executor blob cluster mesh secured follow clock retry doors listing config lifecycle certificate keys rationed log_file environment alone",
    ),
    (
        "agent/src/workflow",
        "jobs daemon peers coordinator supply runs placement versions options",
    ),
    (
        "agent/src/executor",
        "setup procedures pool process backend settings",
    ),
    (
        "agent/router/src",
        "handle event_loop commands clients/read clients/lifetime peers/receive peers/lifetime state clients/listener \
         outbox sockets turns token clients peers flow_control buffers clock",
    ),
    (
        "agent/wamp/src",
        "client router session streaming transport message/encode payload message write scan uris uri id \
         error",
    ),
    ("agent/flow/src", "sink source credit pipe window error"),
    ("agent/folder/src", "removal walk system"),
    ("agent/membership/src", "members channel identity"),
    (
        "agent/protocol/src",
        "run reservation stage pipe file descriptor supply size duration",
    ),
    (
        "agent/job/src",
        "jobs queue finish claim submit expiry blobs rendezvous seams state record key error",
    ),
    ("agent/syntax/src", "file line stage word quoting cursor error"),
    (
        "agent/shim/src",
        "shim dispatcher invocation child processes environment connection files join scratch usage background settings signals \
         disk",
    ),
    (
        "cli/src",
        "args command last local upload client answer secured context output exit object given error liveness escape inherited",
    ),
    (
        "chaos-tests/src",
        "bench scenario invariant load history linearizable differential cluster store wamp http clock power_loss damage fault terminal \
         command proc wait report random",
    ),
    (
        "chaos-tests/preload/src",
        "names contents room faults recorder record system",
    ),
    (
        "chaos-tests/sim/src",
        "run faults operator world damage host jobs client network life book check history ledger fate model trace plan panics",
    ),
    (
        "chaos-tests/sim/seam/src",
        "sled fs disk crash inode mutant chance",
    ),
];

#[test]
fn parts_use_one_another_downwards() {
    let files = tree::rust();
    let found: Vec<String> = LAYERS
        .iter()
        .flat_map(|(folder, parts)| upward(&files, folder, parts))
        .collect();
    none("uses the wrong way", &found);
}

#[test]
fn the_tables_name_the_parts_that_there_are() {
    let files = tree::rust();
    let mut found = Vec::new();
    for folder in SOURCES {
        if !LAYERS.iter().any(|(listed, _)| *listed == folder) {
            found.push(format!("{folder} has no table"));
        }
    }
    for (folder, parts) in LAYERS {
        let listed: BTreeSet<&str> = parts.split_whitespace().collect();
        let there: BTreeSet<&str> = files
            .keys()
            .filter_map(|file| part(folder, parts, file))
            .collect();
        found.extend(
            listed
                .difference(&there)
                .map(|part| format!("{folder} has no part {part}")),
        );
        found.extend(
            there
                .difference(&listed)
                .map(|part| format!("{folder}: {part} has no place")),
        );
    }
    none("tables that are not true", &found);
}

#[test]
fn a_planted_upward_use_is_found_in_every_table() {
    for (folder, parts) in LAYERS {
        let names: Vec<&str> = parts
            .split_whitespace()
            .filter(|part| !part.contains('/'))
            .collect();
        let (Some(top), Some(bottom)) = (names.first(), names.last()) else {
            continue;
        };
        let source = SOURCES.iter().find(|source| folder.starts_with(*source));
        let source = source.unwrap_or_else(|| panic!("{folder} is in no crate"));
        // The crate as far as its table tells it, all of it in order but for one line.
        let inner: Vec<&str> = folder[source.len()..]
            .split('/')
            .filter(|name| !name.is_empty())
            .collect();
        let declared: String = names.iter().map(|name| format!("mod {name};\n")).collect();
        let mut files = Files::new();
        let mut holder = (*source).to_owned();
        for (depth, name) in inner.iter().enumerate() {
            let file = if depth == 0 { "lib.rs" } else { "mod.rs" };
            files.insert(format!("{holder}/{file}"), format!("mod {name};\n"));
            holder = format!("{holder}/{name}");
        }
        let file = if inner.is_empty() { "lib.rs" } else { "mod.rs" };
        files.insert(format!("{holder}/{file}"), declared);
        for name in &names {
            let text = format!("use super::{bottom}::Thing;\n");
            files.insert(format!("{folder}/{name}.rs"), text);
        }
        assert_eq!(upward(&files, folder, parts), [""; 0], "nothing is planted yet");
        let above = [vec!["crate"], inner, vec![top]].concat().join("::");
        let text = format!("use std::{{fmt, io}};\n\nfn f() {{\n    {above}::g();\n}}\n");
        files.insert(format!("{folder}/{bottom}.rs"), text);
        let expected = format!("{folder}/{bottom}.rs:4: {bottom} uses {top}, which stands above it");
        let expected = if top == bottom { vec![] } else { vec![expected] };
        assert_eq!(upward(&files, folder, parts), expected);
    }
}

/// The uses between parts of a folder that do not go down.
fn upward(files: &Files, folder: &str, parts: &str) -> Vec<String> {
    let place = |name: &str| parts.split_whitespace().position(|part| part == name);
    let Some(source) = SOURCES.iter().find(|source| folder.starts_with(*source)) else {
        return vec![format!("{folder} is in no crate")];
    };
    // Of one file's uses of one part the first is enough; what has no place is another test's.
    let mut found = BTreeMap::new();
    for used in uses::of_crate(files, source) {
        let (Some(from), Some(to)) = (part(folder, parts, &used.from), part(folder, parts, &used.to)) else {
            continue;
        };
        if place(to).is_some_and(|to| place(from).is_some_and(|from| to < from)) {
            let key = (used.from.clone(), to.to_owned());
            let text = format!(
                "{}:{}: {from} uses {to}, which stands above it",
                used.from, used.line
            );
            found.entry(key).or_insert(text);
        }
    }
    found.into_values().collect()
}

/// The part of a folder that a file belongs to: the one listed that says most of its path, else its first name.
fn part<'a>(folder: &str, parts: &'a str, file: &'a str) -> Option<&'a str> {
    let inner = file.strip_prefix(folder)?.strip_prefix('/')?;
    let inner = inner.trim_end_matches(".rs");
    let is_in = |part: &&str| {
        inner
            .strip_prefix(part)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let listed = parts
        .split_whitespace()
        .filter(is_in)
        .max_by_key(|part| part.len());
    if listed.is_some() {
        return listed;
    }
    let name = inner.split('/').next()?;
    // Programs beside a library see it from outside, and tests may see all.
    let has_place = !["lib", "main", "mod", "bin", "tests"].contains(&name);
    has_place.then_some(name)
}
