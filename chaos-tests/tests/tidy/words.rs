//! What files are called, how they begin, and what none may say.
//!
//! The words that are looked for are put together from halves here, so that this file does not find itself.

use std::path::Path;

use crate::tree::{self, none};

/// Names that say nothing of what a file knows.
const EMPTY_NAMES: [&str; 8] = [
    "util", "utils", "common", "helpers", "misc", "types", "manager", "imp",
];

/// Words of our own that a field has a better one for, and that one: no Rust file or folder is called so.
const OLD_NAMES: [(&str, &str); 9] = [
    ("duty", "leader_tasks"),
    ("kin", "processes"),
    ("lanes", "send_queues"),
    ("leftover", "orphans"),
    ("offer", "internal"),
    ("onward", "splice"),
    ("pump", "stdio"),
    ("shard", "event_loop"),
    ("shelf", "store"),
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

#[test]
fn every_file_says_what_it_is() {
    let found: Vec<String> = tree::rust()
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
    let found: Vec<String> = tree::all()
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
fn names_are_the_fields_words() {
    let mut found = Vec::new();
    for path in tree::rust().into_keys() {
        let parts = path.split('/').map(|part| part.trim_end_matches(".rs"));
        for part in parts {
            for (_, better) in OLD_NAMES.iter().filter(|(old, _)| *old == part) {
                found.push(format!("{path}: say {better}"));
            }
        }
    }
    none("names that only we would understand", &found);
}

/// Ages are counted by the store's clock, which no step of a wall clock moves.
#[test]
fn no_wall_clock_is_asked_by_the_store_nor_by_what_jobs_decide() {
    let asked = ["SystemTime", "::now"].concat();
    let decides = |path: &str| path.starts_with("raft/src/") || path.starts_with("agent/job/src/");
    let found: Vec<String> = tree::rust()
        .into_iter()
        .filter(|(path, text)| decides(path) && !path.contains("/tests") && text.contains(&asked))
        .map(|(path, _)| path)
        .collect();
    none("a wall clock is asked in", &found);
}

#[test]
fn banned_words_are_nowhere() {
    let banned = banned();
    let mut found = Vec::new();
    for (path, text) in tree::all() {
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
