//! Which file of a crate uses which: by `use`, and by paths in code such as `crate::line::parse(...)`.
//!
//! ```text
//! src/command/run.rs    use crate::{error, output::{self, json}};    ->  src/error.rs  src/output/mod.rs  src/output/json.rs
//!                       error::plain(&why)                           ->  src/error.rs
//! ```
//!
//! A name that a module only hands on (`pub use`) counts as its own file's. Code under `#[cfg(test)]` does not count,
//! nor do macros of other files.

use std::collections::{BTreeMap, BTreeSet};

use crate::tokens::{self, Token};
use crate::tree::Files;

/// One file using another, with the place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    pub from: String,
    pub to: String,
    /// As it is written, from the crate's root.
    pub path: String,
    pub line: usize,
}

/// A module's path from its crate's root; empty for the root.
type Path = Vec<String>;

/// What a file says about others.
#[derive(Default)]
struct Module {
    file: String,
    /// Modules that it declares, those of tests alone left out.
    children: BTreeSet<String>,
    /// Names that it takes from elsewhere, and from where.
    names: BTreeMap<String, Path>,
    /// Paths in it, as they are written, and where. A `use` of all names of a module ends with the module.
    paths: Vec<(Path, usize)>,
}

/// The modules of a crate by their paths.
struct Crate(BTreeMap<Path, Module>);

/// All uses between the files below `folder`, which holds a crate's source. Tests and programs beside a library are no
/// part of it.
pub fn of_crate(files: &Files, folder: &str) -> Vec<Use> {
    let modules = Crate::read(files, folder);
    let mut found = BTreeSet::new();
    for (own, module) in &modules.0 {
        for (path, line) in &module.paths {
            let Some(absolute) = modules.absolute(own, path) else {
                continue;
            };
            let to = modules.home(&absolute);
            if to != module.file {
                found.insert(Use {
                    from: module.file.clone(),
                    to,
                    path: absolute.join("::"),
                    line: *line,
                });
            }
        }
    }
    found.into_iter().collect()
}

/// Whether one of two files is the parent of the other, at any distance.
pub fn are_kindred(folder: &str, one: &str, other: &str) -> bool {
    let (one, other) = (module_path(folder, one), module_path(folder, other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// The module that a file is.
fn module_path(folder: &str, file: &str) -> Path {
    let inner = file.strip_prefix(folder).unwrap_or(file).trim_start_matches('/');
    let mut path: Path = inner
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    let is_index = path.last().is_some_and(|last| last == "mod") || path == ["lib"] || path == ["main"];
    path.truncate(path.len() - usize::from(is_index));
    path
}

impl Crate {
    fn read(files: &Files, folder: &str) -> Crate {
        let mut modules = BTreeMap::new();
        let prefix = format!("{folder}/");
        let has_library = files.contains_key(&format!("{folder}/lib.rs"));
        for (file, text) in files.iter().filter(|(file, _)| file.starts_with(&prefix)) {
            // The program beside a library sees it from outside.
            let is_program = file.starts_with(&format!("{folder}/bin/"));
            if is_program || (has_library && *file == format!("{folder}/main.rs")) {
                continue;
            }
            let tokens = tokens::tokens(text);
            let path = module_path(folder, file);
            scan(&tokens, file, path, &mut modules);
        }
        // Only what the root declares, and what that declares, is there outside of tests.
        let declared: BTreeSet<Path> = modules
            .keys()
            .filter(|path| is_declared(&modules, path))
            .cloned()
            .collect();
        modules.retain(|path, _| declared.contains(path));
        Crate(modules)
    }

    /// A path from the crate's root, unless it leads out of the crate.
    fn absolute(&self, own: &[String], path: &[String]) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        let module = self.0.get(own)?;
        let mut absolute = match first.as_str() {
            "crate" => Vec::new(),
            "self" => own.to_vec(),
            "super" => {
                let supers = path.iter().take_while(|part| *part == "super").count();
                let mut absolute = own[..own.len().checked_sub(supers)?].to_vec();
                absolute.extend_from_slice(&path[supers..]);
                return Some(absolute);
            }
            name if module.children.contains(name) => [own, std::slice::from_ref(first)].concat(),
            name => {
                // A name that was taken from elsewhere; one that is taken from itself is another crate's.
                let taken = module
                    .names
                    .get(name)
                    .filter(|taken| taken.first() != Some(first))?;
                self.absolute(own, taken)?
            }
        };
        absolute.extend_from_slice(rest);
        Some(absolute)
    }

    /// The file that a path leads to, past modules that only hand a name on.
    fn home(&self, path: &[String]) -> String {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let (own, module) = self.nearest(&path);
            let Some(taken) = path.get(own.len()).and_then(|name| module.names.get(name)) else {
                return module.file.clone();
            };
            let Some(mut next) = self.absolute(own, taken) else {
                return module.file.clone();
            };
            next.extend_from_slice(&path[own.len() + 1..]);
            if next == path {
                return module.file.clone();
            }
            path = next;
        }
        self.nearest(&path).1.file.clone()
    }

    /// The innermost module on a path.
    #[expect(
        clippy::expect_used,
        reason = "what has a path into the crate is in it, and so is its root"
    )]
    fn nearest(&self, path: &[String]) -> (&Path, &Module) {
        let mut lengths = (0..=path.len()).rev();
        let found = lengths.find_map(|length| self.0.get_key_value(&path[..length]));
        found.expect("a crate has a root")
    }
}

fn is_declared(modules: &BTreeMap<Path, Module>, path: &[String]) -> bool {
    match path.split_last() {
        None => true,
        Some((name, parent)) => {
            let is_child = modules
                .get(parent)
                .is_some_and(|parent| parent.children.contains(name));
            is_child && is_declared(modules, parent)
        }
    }
}

/// Reads a file, or a module within one.
fn scan(tokens: &[Token<'_>], file: &str, own: Path, modules: &mut BTreeMap<Path, Module>) {
    let mut module = Module {
        file: file.to_owned(),
        ..Module::default()
    };
    let mut at = 0;
    while at < tokens.len() {
        let text = tokens[at].text;
        let after = |by: usize| tokens.get(at + by).map_or("", |token| token.text);
        if let Some(skipped) = tokens::test_only(tokens, at) {
            at = skipped.end;
        } else if text == "mod" && after(2) == ";" {
            module.children.insert(after(1).to_owned());
            at += 3;
        } else if text == "mod" && after(2) == "{" {
            let end = tokens::item_end(tokens, at);
            let inner = [own.clone(), vec![after(1).to_owned()]].concat();
            module.children.insert(after(1).to_owned());
            scan(&tokens[at + 3..end - 1], file, inner, modules);
            at = end;
        } else if text == "use" {
            let end = tokens::item_end(tokens, at);
            let end = if after(end - at) == ";" { end + 1 } else { end };
            tree(&mut &tokens[at + 1..end], &[], &mut module);
            at = end;
        } else if tokens[at].is_word() && after(1) == "::" {
            let line = tokens[at].line;
            let mut path = vec![text.to_owned()];
            while tokens.get(at + 1).is_some_and(|token| token.text == "::")
                && tokens.get(at + 2).is_some_and(Token::is_word)
            {
                path.push(tokens[at + 2].text.to_owned());
                at += 2;
            }
            module.paths.push((path, line));
            // Past `::` of what is no name, as in `Vec::<u8>::new`, which says no more of modules.
            at += 1;
            while tokens.get(at).is_some_and(|token| token.text == "::") {
                at += 1 + usize::from(tokens.get(at + 1).is_some_and(Token::is_word));
            }
        } else {
            at += 1;
        }
    }
    modules.insert(own, module);
}

/// Reads one tree of a `use`: `a::b`, `a::{self, b as c}`, `a::*`.
fn tree(tokens: &mut &[Token<'_>], before: &[String], module: &mut Module) {
    let mut path = before.to_vec();
    let mut line = 0;
    while let Some((token, rest)) = tokens.split_first() {
        match token.text {
            "::" => *tokens = rest,
            "{" => {
                *tokens = rest;
                while tokens.first().is_some_and(|token| token.text != "}") {
                    tree(tokens, &path, module);
                    if tokens.first().is_some_and(|token| token.text == ",") {
                        *tokens = &tokens[1..];
                    }
                }
                *tokens = tokens.get(1..).unwrap_or_default();
                return;
            }
            "*" => {
                *tokens = rest;
                module.paths.push((path, token.line));
                return;
            }
            "as" => {
                let name = rest.first().map_or("", |token| token.text).to_owned();
                *tokens = rest.get(1..).unwrap_or_default();
                module.names.insert(name, path.clone());
                module.paths.push((path, token.line));
                return;
            }
            _ if token.is_word() => {
                *tokens = rest;
                line = token.line;
                // `self` within braces is what stands before them.
                if token.text != "self" || path.is_empty() {
                    path.push(token.text.to_owned());
                }
            }
            _ => break,
        }
        if !tokens
            .first()
            .is_some_and(|token| matches!(token.text, "::" | "{" | "*" | "as"))
            && token.is_word()
        {
            break;
        }
    }
    // Whatever it is, it is passed: a tree always takes something.
    if line == 0 {
        *tokens = tokens.get(1..).unwrap_or_default();
    } else if let Some(name) = path.last() {
        module.names.insert(name.clone(), path.clone());
        module.paths.push((path, line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `src/a.rs` uses, where it says this.
    fn used(text: &str) -> Vec<String> {
        let files: Files = [
            ("src/lib.rs", "mod a; mod b; mod d; #[cfg(test)] mod tests;"),
            ("src/a.rs", text),
            (
                "src/b/mod.rs",
                "mod c; mod e; pub use c::{Thing as Renamed, make}; pub struct Own;",
            ),
            ("src/b/c.rs", ""),
            ("src/b/e.rs", ""),
            ("src/d.rs", ""),
            ("src/tests.rs", "use crate::a;"),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into();
        let uses = of_crate(&files, "src");
        let own = uses.into_iter().filter(|used| used.from == "src/a.rs");
        own.map(|used| used.to)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    #[test]
    fn trees_of_use_are_read_whole() {
        assert_eq!(used("use crate::d::X;"), ["src/d.rs"]);
        assert_eq!(
            used("use crate::{\n    b::{self, e::{X, Y}},\n    d as other,\n};"),
            ["src/b/e.rs", "src/b/mod.rs", "src/d.rs"]
        );
        assert_eq!(used("pub(crate) use super::d::*;"), ["src/d.rs"]);
        assert_eq!(used("use std::{fmt, io::{self, Read}}; use d::X;"), [""; 0]);
    }

    #[test]
    fn paths_in_code_are_uses() {
        assert_eq!(
            used("fn f() { crate::b::e::g::<u8>(super::d::X) }"),
            ["src/b/e.rs", "src/d.rs"]
        );
        assert_eq!(
            used("use crate::b; fn f() { b::e::g() }"),
            ["src/b/e.rs", "src/b/mod.rs"]
        );
        assert_eq!(
            used("use crate::d as other; #[arg(p = other::g)] struct S;"),
            ["src/d.rs"]
        );
    }

    #[test]
    fn a_name_that_is_handed_on_is_its_own_files() {
        assert_eq!(used("use crate::b::Renamed;"), ["src/b/c.rs"]);
        assert_eq!(
            used("fn f() { crate::b::make(); crate::b::Own; }"),
            ["src/b/c.rs", "src/b/mod.rs"]
        );
    }

    #[test]
    fn code_of_tests_and_comments_do_not_count() {
        assert_eq!(
            used("// use crate::d;\n#[cfg(test)]\nmod tests { use crate::d; }"),
            [""; 0]
        );
        assert_eq!(
            used("#[cfg(test)] use crate::d::{X}; fn f() { \"crate::d\"; }"),
            [""; 0]
        );
    }

    #[test]
    fn a_module_within_a_file_counts_from_where_it_stands() {
        assert_eq!(used("pub mod inner { use super::super::d::X; }"), ["src/d.rs"]);
    }
}
