//! Which crate of ours may name which, and that every dependency has its reason.

use std::collections::BTreeSet;

use crate::tree::{self, none, root};

/// Which crates of ours each crate may name.
const CRATES: [(&str, &[&str]); 14] = [
    ("raft", &[]),
    ("agent/flow", &[]),
    ("agent/syntax", &[]),
    ("agent/folder", &[]),
    ("agent/membership", &[]),
    ("agent/wamp", &["pipes-flow"]),
    ("agent/protocol", &["pipes-wamp"]),
    ("agent/job", &["pipes-raft"]),
    ("agent/router", &["pipes-flow", "pipes-wamp"]),
    (
        "agent/shim",
        &["pipes-flow", "pipes-folder", "pipes-protocol", "pipes-wamp"],
    ),
    (
        "agent",
        &[
            "pipes-flow",
            "pipes-folder",
            "pipes-job",
            "pipes-membership",
            "pipes-protocol",
            "pipes-raft",
            "pipes-router",
            "pipes-syntax",
            "pipes-wamp",
        ],
    ),
    (
        "cli",
        &[
            "pipes-folder",
            "pipes-membership",
            "pipes-protocol",
            "pipes-syntax",
            "pipes-wamp",
        ],
    ),
    ("chaos-tests", &[]),
    ("chaos-tests/preload", &[]),
];

#[test]
fn crates_depend_one_way() {
    let mut found = Vec::new();
    for (folder, allowed) in CRATES {
        let Ok(manifest) = std::fs::read_to_string(root().join(folder).join("Cargo.toml")) else {
            found.push(format!("{folder} is no crate"));
            continue;
        };
        let dependencies = manifest.split_once("[dependencies]").map_or("", |(_, rest)| rest);
        for line in dependencies.lines().take_while(|line| !line.starts_with('[')) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if name.starts_with("pipes") && !allowed.contains(&name) {
                found.push(format!("{folder} depends on {name}"));
            }
            if !name.is_empty() && !name.starts_with('#') && !line.contains("workspace = true") {
                found.push(format!(
                    "{folder}: {name} is not taken from the workspace, where its reason stands"
                ));
            }
        }
    }
    none("dependencies the wrong way", &found);
}

#[test]
fn every_dependency_is_used() {
    let files = tree::rust();
    let mut found = Vec::new();
    for (folder, _) in CRATES {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap_or_default();
        let own = ["src/", "tests/"].map(|part| format!("{folder}/{part}"));
        let sources = files
            .iter()
            .filter(|(path, _)| own.iter().any(|own| path.starts_with(own)));
        let words: BTreeSet<&str> = sources
            .flat_map(|(_, text)| text.split(|c: char| !c.is_alphanumeric() && c != '_'))
            .collect();
        let sections = manifest
            .split("\n[")
            .filter(|section| section.contains("dependencies]\n"));
        let lines = sections.flat_map(|section| section.lines().skip(1));
        let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
        let unused = names.filter(|name| !name.starts_with('#') && !words.contains(&*name.replace('-', "_")));
        found.extend(unused.map(|name| format!("{folder} names {name} for nothing")));
    }
    none("dependencies that nobody uses", &found);
}

#[test]
fn every_dependency_has_its_reason_in_the_readme() {
    let tree = tree::all();
    let manifest = &tree["Cargo.toml"];
    let readme = &tree["README.md"];
    let dependencies = manifest
        .split_once("[workspace.dependencies]")
        .map_or("", |(_, rest)| rest);
    let found: Vec<String> = dependencies
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name.trim().to_owned()))
        .filter(|name| !name.starts_with('#') && !name.starts_with("pipes-"))
        .filter(|name| !readme.contains(&format!("`{name}`")))
        .collect();
    none("dependencies that the README gives no reason for", &found);
}
