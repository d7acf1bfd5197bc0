//! No two files import each other, nor several in a ring; a parent and what lies within it may.

use std::collections::{BTreeMap, BTreeSet};

use crate::layers::SOURCES;
use crate::tree::{self, Files, none};
use crate::uses::{self, Use};

#[test]
fn no_two_files_import_each_other() {
    let files = tree::rust();
    let found: Vec<String> = SOURCES
        .iter()
        .flat_map(|folder| circles(&files, folder))
        .collect();
    none("files that import each other", &found);
}

#[test]
fn a_planted_circle_is_found_in_every_crate() {
    let tree = tree::rust();
    for folder in SOURCES {
        let mut files = tree.clone();
        let roots = ["lib.rs", "main.rs"].map(|name| format!("{folder}/{name}"));
        let root = roots.into_iter().find(|root| files.contains_key(root));
        let root = root.unwrap_or_else(|| panic!("{folder} has no source"));
        let declared = "\nmod planted_a;\nmod planted_b;\nmod planted_c;\n";
        files.entry(root).or_default().push_str(declared);
        for (name, text) in [
            ("a", "use crate::{\n    planted_b::{self, X},\n};"),
            ("b", "fn f() { super::planted_c::g() }"),
            ("c", "pub use super::planted_a::Y;"),
        ] {
            files.insert(format!("{folder}/planted_{name}.rs"), text.to_owned());
        }
        let planted = [
            "a.rs, PLANTED_b.rs, PLANTED_c.rs",
            "  PLANTED_a.rs:2 uses planted_b",
            "  PLANTED_b.rs:1 uses planted_c::g",
            "  PLANTED_c.rs:1 uses planted_a::Y",
        ];
        let planted =
            format!("PLANTED_{}", planted.join("\n")).replace("PLANTED", &format!("{folder}/planted"));
        let found = circles(&files, folder);
        assert!(found.contains(&planted), "in {folder}: {found:#?}");
        assert_eq!(found.len(), circles(&tree, folder).len() + 1);
    }
}

/// Each ring of files with the uses that make it.
fn circles(files: &Files, folder: &str) -> Vec<String> {
    let uses: Vec<Use> = uses::of_crate(files, folder)
        .into_iter()
        .filter(|used| !uses::are_kindred(folder, &used.from, &used.to))
        .collect();
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for used in &uses {
        next.entry(&used.from).or_default().insert(&used.to);
    }
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        next.keys().map(|file| (*file, reached(&next, file))).collect();
    let mut rings: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
    for (file, reached) in &reach {
        let ring: BTreeSet<&str> = reached
            .iter()
            .filter(|other| reach.get(*other).is_some_and(|back| back.contains(file)))
            .copied()
            .collect();
        rings.insert(ring);
    }
    let ring_text = |ring: &BTreeSet<&str>| {
        // Of one file's uses of another the first is enough.
        let within = uses
            .iter()
            .filter(|used| ring.contains(&*used.from) && ring.contains(&*used.to));
        let mut lines = BTreeMap::new();
        for used in within {
            let line = format!("  {}:{} uses {}", used.from, used.line, used.path);
            lines.entry((&used.from, &used.to)).or_insert(line);
        }
        let names: Vec<&str> = ring.iter().copied().collect();
        let lines: Vec<String> = lines.into_values().collect();
        format!("{}\n{}", names.join(", "), lines.join("\n"))
    };
    rings
        .iter()
        .filter(|ring| !ring.is_empty())
        .map(ring_text)
        .collect()
}

/// All that a file uses, and what that uses.
fn reached<'a>(next: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = vec![from];
    while let Some(file) = open.pop() {
        open.extend(
            next.get(file)
                .into_iter()
                .flatten()
                .filter(|file| found.insert(**file)),
        );
    }
    found
}
