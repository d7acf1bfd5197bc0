//! The tree's own rules, checked by reading it.
//!
//! | rule | why |
//! |---|---|
//! | a Rust file has under 500 lines | beyond that it knows more than one thing |
//! | a function has at most 70 lines | it fits on a screen; longer ones are listed with their reason, and the list only shrinks |
//! | a file opens with `//!` | a reader learns what it is for before the first `fn` |
//! | no file named `util`, `common`, ... | a file is named by what it knows |
//! | no unbounded channel | a queue without a bound is memory without a bound |
//! | `use` goes one way between crates and parts | a part can be understood without those above it |
//! | no hosts of registries, no paths of one machine | the tree works wherever it is cloned |
//!
//! The words that are looked for are put together from halves here, so that this file does not find itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file's lines, at most.
const FILE_LINES_MAX: usize = 500;
/// A function's lines, at most.
const FUNCTION_LINES_MAX: usize = 70;
/// The median of the files' lines, at most.
const FILE_LINES_MEDIAN_MAX: usize = 200;
/// Functions that are longer: `file:function`, and why. A line is removed when its function is shorter; none is added
/// without its reason.
const LONG_FUNCTIONS: [(&str, &str); 4] = [
    (
        "agent/src/router/frame/tests.rs:messages_come_out_as_they_went_in",
        "one entry for each kind of frame",
    ),
    (
        "agent/wamp/src/message/tests.rs:all",
        "one entry for each kind of message",
    ),
    (
        "agent/wamp/src/router/dealer/links.rs:cross",
        "one arm for each kind of crossing",
    ),
    (
        "agent/wamp/src/router/scripts.rs:session",
        "one arm for each word of the scripts",
    ),
];
/// Names that say nothing of what a file knows.
const EMPTY_NAMES: [&str; 8] = [
    "util", "utils", "common", "helpers", "misc", "types", "manager", "imp",
];

/// What no file may say, and what to do instead.
fn banned() -> Vec<(String, &'static str)> {
    let join = |halves: [&str; 2]| halves.concat();
    vec![
        (
            join(["unbounded_", "channel"]),
            "use a channel with a capacity and say what happens when it is full",
        ),
        (
            join(["mpsc::", "unbounded"]),
            "use a channel with a capacity and say what happens when it is full",
        ),
        (join(["TO", "DO"]), "file an issue; the tree holds no work lists"),
        (join(["FIX", "ME"]), "file an issue; the tree holds no work lists"),
        (join(["XX", "X:"]), "file an issue; the tree holds no work lists"),
        (join(["#[allow", "("]), "write #[expect(..., reason = \"...\")]"),
        (join(["index.crates", ".io"]), "name packages, not hosts"),
        (join(["files.python", "hosted"]), "name packages, not hosts"),
        (join(["deb.debian", ".org"]), "name packages, not hosts"),
        (join(["registry.npm", "js"]), "name packages, not hosts"),
        (join(["/wor", "k/"]), "a path of one machine"),
        (join(["/root", "/"]), "a path of one machine"),
    ]
}

/// Which crates of ours each crate may name.
const CRATES: [(&str, &[&str]); 7] = [
    ("raft", &[]),
    ("agent/wamp", &[]),
    ("agent/shim", &["pipes-wamp"]),
    ("agent", &["pipes-raft", "pipes-wamp"]),
    ("cli", &["pipes-wamp"]),
    ("chaos-tests", &[]),
    ("chaos-tests/preload", &[]),
];

/// The agent's parts from the top down: a part uses those of the layers below it, and its own layer's only where the
/// list says so.
const LAYERS: [&[&str]; 6] = [
    &["agent"],
    &["api"],
    &["workflow"],
    &["service", "executor"],
    &["router", "blob"],
    &["mesh"],
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// Every text file of the tree, by its path from the root, and what it says.
fn tree() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    collect(&root(), &root(), &mut files);
    assert!(files.len() > 50, "only {} files were found", files.len());
    files
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            // The target directory and Git's own.
            if !(name == "target" || name == ".git") {
                collect(root, &path, files);
            }
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let from_root = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            files.insert(from_root, text);
        }
    }
}

fn rust() -> BTreeMap<String, String> {
    tree()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .collect()
}

fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn files_are_short() {
    let files = rust();
    let mut lengths: Vec<usize> = files.values().map(|text| text.lines().count()).collect();
    lengths.sort_unstable();
    let found: Vec<String> = files
        .iter()
        .filter(|(_, text)| text.lines().count() >= FILE_LINES_MAX)
        .map(|(path, text)| format!("{path}: {} lines", text.lines().count()))
        .collect();
    none(&format!("files of {FILE_LINES_MAX} lines or more"), &found);
    let median = lengths[lengths.len() / 2];
    assert!(
        median < FILE_LINES_MEDIAN_MAX,
        "half of the files have {median} lines or more"
    );
}

#[test]
fn functions_fit_on_a_screen() {
    let mut found = Vec::new();
    let mut unused: Vec<&str> = LONG_FUNCTIONS.iter().map(|(name, _)| *name).collect();
    for (path, text) in rust() {
        for (name, lines) in functions(&text) {
            if lines <= FUNCTION_LINES_MAX {
                continue;
            }
            let known = format!("{path}:{name}");
            unused.retain(|listed| *listed != known);
            if !LONG_FUNCTIONS.iter().any(|(listed, _)| *listed == known) {
                found.push(format!("{known}: {lines} lines"));
            }
        }
    }
    none(
        &format!("functions of more than {FUNCTION_LINES_MAX} lines"),
        &found,
    );
    assert!(
        unused.is_empty(),
        "these are short by now, so take them off the list: {unused:?}"
    );
}

/// The functions of a file that rustfmt has laid out: from a line that begins one to the line that closes it with
/// the same indent.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let words: Vec<&str> = trimmed
            .split_whitespace()
            .take_while(|word| !word.contains('('))
            .collect();
        let begins = trimmed.starts_with("fn ")
            || (trimmed.contains(" fn ") && words.iter().all(|word| is_qualifier(word)));
        if !begins || trimmed.starts_with("//") {
            continue;
        }
        let name = trimmed.split("fn ").nth(1).unwrap_or_default();
        let name: String = name
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let close = format!("{}}}", " ".repeat(indent));
        let mut end = start;
        while end < lines.len() && lines[end] != close && !(end == start && line.ends_with('}')) {
            // A function without a body, in a trait.
            if lines[end].ends_with(';') && lines[start..=end].iter().all(|line| !line.contains('{')) {
                break;
            }
            end += 1;
        }
        found.push((name, end - start + 1));
    }
    found
}

fn is_qualifier(word: &str) -> bool {
    ["pub", "fn", "async", "const", "unsafe", "extern"].contains(&word) || word.starts_with('"')
}

#[test]
fn every_file_says_what_it_is() {
    let found: Vec<String> = rust()
        .into_iter()
        .filter(|(_, text)| {
            let first = text
                .lines()
                .find(|line| !line.is_empty() && !line.starts_with("#!["));
            !first.is_some_and(|line| line.starts_with("//!"))
        })
        .map(|(path, _)| path)
        .collect();
    none("files that do not open with `//!`", &found);
}

#[test]
fn names_say_what_a_file_knows() {
    let found: Vec<String> = tree()
        .into_keys()
        .filter(|path| {
            Path::new(path).components().any(|part| {
                let name = part.as_os_str().to_string_lossy();
                EMPTY_NAMES.contains(&name.split('.').next().unwrap_or_default())
            })
        })
        .collect();
    none("files whose names say nothing", &found);
}

#[test]
fn banned_words_are_nowhere() {
    let banned = banned();
    let mut found = Vec::new();
    for (path, text) in tree() {
        // The lock file names where its packages come from; licences and this project's lists of bans name things.
        if ["Cargo.lock", "LICENSE", "clippy.toml", "deny.toml"].contains(&path.as_str()) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for (word, instead) in &banned {
                if line.contains(word.as_str()) {
                    found.push(format!("{path}:{}: {word}: {instead}", number + 1));
                }
            }
        }
    }
    none("banned words", &found);
}

#[test]
fn crates_depend_one_way() {
    let mut found = Vec::new();
    for (folder, allowed) in CRATES {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
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
fn the_agents_parts_use_one_another_downwards() {
    let layer = |part: &str| LAYERS.iter().position(|parts| parts.contains(&part));
    let mut found = Vec::new();
    for (path, text) in rust() {
        let Some(rest) = path.strip_prefix("agent/src/") else {
            continue;
        };
        let part = rest.split(['/', '.']).next().unwrap_or_default();
        let Some(own) = layer(part) else { continue };
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for used in code.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if used != part && layer(&used).is_some_and(|other| other < own) {
                    found.push(format!(
                        "{path}:{}: {part} uses {used}, which stands above it",
                        number + 1
                    ));
                }
            }
        }
    }
    none("uses the wrong way", &found);
}

#[test]
fn scripts_stop_at_their_first_failure() {
    let found: Vec<String> = tree()
        .into_iter()
        .filter(|(path, text)| {
            (path.starts_with("scripts/") || path.starts_with(".ci/"))
                && text.starts_with("#!/usr/bin/env bash")
                && !text.contains("\nset -euo pipefail\n")
        })
        .map(|(path, _)| path)
        .collect();
    none("scripts without `set -euo pipefail`", &found);
}

#[test]
fn every_dependency_has_its_reason_in_the_readme() {
    let tree = tree();
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
