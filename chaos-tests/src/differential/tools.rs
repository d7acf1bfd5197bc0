//! The tools that lines are made of, and arguments for each.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::quote;

/// Every tool; each is built as a service before the lines are run.
pub const TOOLS: [&str; 31] = [
    "cat", "tr", "sort", "head", "tail", "grep", "sed", "awk", "wc", "cut", "uniq", "tee", "gzip", "base64",
    "seq", "yes", "true", "false", "sh", "nl", "tac", "rev", "fold", "paste", "od", "printf", "echo", "dd",
    "md5sum", "expand", "xz",
];

/// Signals that a stage may send itself: those that end a process and that no terminal takes part in.
const SIGNALS: [i32; 8] = [1, 2, 3, 6, 9, 13, 14, 15];

/// Whether the tool makes its output without reading.
pub fn is_source(tool: &str) -> bool {
    matches!(tool, "seq" | "yes" | "printf" | "echo" | "true" | "false")
}

fn pick<'a>(random: &mut StdRng, choices: &[&'a str]) -> &'a str {
    choices.choose(random).copied().unwrap_or("")
}

fn pattern(random: &mut StdRng) -> String {
    let text = pick(
        random,
        &[
            "a",
            "y",
            "[0-9]",
            "^$",
            "e.",
            "it's",
            "alpha Beta",
            "\"quoted\"",
            "zzz",
            "\\.",
            "$",
        ],
    );
    quote::word(random, text)
}

fn script(random: &mut StdRng, text: &str) -> String {
    quote::word(random, text)
}

/// Arguments with which the tool ends by itself once its input does. `yes` never does: `seq` stands in for it.
pub fn finite<'a>(random: &mut StdRng, tool: &'a str) -> (&'a str, String) {
    let tool = if tool == "yes" { "seq" } else { tool };
    let number = random.random_range(1..60);
    let arguments = of_patterns(random, tool, number)
        .or_else(|| of_numbers(random, tool, number))
        .unwrap_or_else(|| of_choices(random, tool).to_owned());
    (tool, arguments)
}

/// Tools whose arguments are patterns and programs.
fn of_patterns(random: &mut StdRng, tool: &str, number: u32) -> Option<String> {
    Some(match tool {
        "tr" => match random.random_range(0..4) {
            0 => "a-z A-Z".to_owned(),
            1 => format!("-d {}", quote::word(random, "aeiou ")),
            2 => format!("-s {}", script(random, "\\n")),
            _ => format!("-c {} {}", script(random, "a-z\\n"), quote::word(random, " ")),
        },
        "grep" => {
            let option = pick(
                random,
                &["", "-v ", "-c ", "-n ", "-i ", "-a ", "-o ", "-E ", "-m 3 "],
            );
            format!("{option}-- {}", pattern(random))
        }
        "sed" => {
            let text = pick(
                random,
                &[
                    "s/a/b/g",
                    "s/^/> /",
                    "1d",
                    "$d",
                    "/e/d",
                    "y/abc/ABC/",
                    "s/[0-9]*$/<&>/",
                    "p",
                    "-n",
                    "2,5!d",
                    "12q3",
                ],
            );
            if text == "-n" {
                format!("-n {}", script(random, "1~3p"))
            } else {
                script(random, text)
            }
        }
        "awk" => {
            let text = pick(
                random,
                &[
                    "{ print $1 }",
                    "{ n += NF } END { print n }",
                    "length > 3",
                    "NR % 2",
                    "{ print NR \": \" $0 }",
                    "END { exit 4 }",
                    "BEGIN { print \"x\"; exit 2 }",
                    "!seen[$0]++",
                ],
            );
            script(random, text)
        }
        "printf" => {
            let word = quote::word(random, "%s-%d\\n");
            format!("{word} {} {number} b 7", quote::word(random, "a b"))
        }
        "echo" => {
            let word = pick(random, &["hello", "it's", "a  b", "*", "\\n", "-", "tab\\t"]);
            let glob = pick(random, &["", " *", " ?x", " [a-z]*", " -n", " -e 'a\\tb'"]);
            format!("{}{glob}", quote::word(random, word))
        }
        "sh" => shell(random),
        _ => return None,
    })
}

/// Tools whose arguments are mostly numbers.
fn of_numbers(random: &mut StdRng, tool: &str, number: u32) -> Option<String> {
    Some(match tool {
        "head" => match random.random_range(0..3) {
            0 => format!("-{number}"),
            1 => format!("-c {}", number * 97),
            _ => format!("-n -{number}"),
        },
        "tail" => match random.random_range(0..3) {
            0 => format!("-n {number}"),
            1 => format!("-c {}", number * 31),
            _ => format!("-n +{number}"),
        },
        "seq" => match random.random_range(0..4) {
            0 => format!("{number}"),
            1 => format!("1 {}", number * 700),
            2 => format!("-w 3 7 {}", number * 20),
            _ => format!("-s {} {number}", quote::word(random, ", ")),
        },
        "dd" => match random.random_range(0..3) {
            0 => "status=none".to_owned(),
            1 => format!("bs=97 count={number} iflag=fullblock status=none"),
            _ => "bs=64k iflag=fullblock status=none".to_owned(),
        },
        _ => return None,
    })
}

/// Tools with a few ways to be called.
fn of_choices(random: &mut StdRng, tool: &str) -> &'static str {
    let choices: &[&str] = match tool {
        "cat" => &["", "-", "-A", "-n", "-s", "-E -T"],
        "sort" => &["", "-r", "-n", "-u", "-k 2", "-t , -k 1", "-s -f", "-c"],
        "wc" => &["", "-l", "-c", "-w", "-L"],
        "cut" => &["-c 1-5", "-d ' ' -f 1", "-d, -f2-", "-b 3", "-c 2- --complement"],
        "uniq" => &["", "-c", "-d", "-u", "-i"],
        "tee" => &["", "/dev/null", "copy other", "-a copy"],
        "gzip" => &["-n", "-1n", "-cn9", "-dc", "-t"],
        "base64" => &["", "-w 0", "-w 19", "-d", "-di"],
        "true" => &["", "x y"],
        "nl" => &["", "-ba", "-s : -w 3"],
        "tac" => &["", "-b"],
        "fold" => &["", "-w 7", "-s -w 30", "-b -w 100"],
        "paste" => &["- -", "-s", "-d : - - -", "-s -d ,"],
        "od" => &["-c", "-An -tx1 -v", "-N 100 -b"],
        "expand" => &["", "-t 3"],
        "xz" => &["-0", "-0 -T1", "-dc", "-t"],
        _ => &[""],
    };
    choices.choose(random).copied().unwrap_or("")
}

fn shell(random: &mut StdRng) -> String {
    let signal = SIGNALS.choose(random).copied().unwrap_or(15);
    let status = random.random_range(0..130);
    let text = match random.random_range(0..11) {
        0 => format!("exit {status}"),
        1 => format!("kill -{signal} $$"),
        2 => format!("cat; exit {status}"),
        3 => "exec cat".to_owned(),
        4 => format!("cat >/dev/null; kill -{signal} $$"),
        5 => "read -r line; echo \"$line\"".to_owned(),
        6 => "echo out; echo err >&2; cat >/dev/null".to_owned(),
        7 => "cat | tr a b; (exit 5)".to_owned(),
        8 => "cd / && cat && ls >/dev/null".to_owned(),
        9 => "while read -r line; do echo \"<$line>\"; done | head -100; cat >/dev/null".to_owned(),
        _ => {
            let argument = quote::word(random, "a 'b' \"c\"");
            return format!(
                "-c {} {} x",
                quote::word(random, "printf \"%s,\" \"$0\" \"$@\"; cat"),
                argument
            );
        }
    };
    format!("-c {}", quote::word(random, &text))
}

/// A tool that lets an endless or a long input through, in step with it.
pub fn passing(random: &mut StdRng) -> (&'static str, String) {
    let choice = random.random_range(0..15);
    let (tool, arguments) = match choice {
        0 => ("cat", pick(random, &["", "-n", "-E"]).to_owned()),
        1 => ("tr", "a-y b-z".to_owned()),
        2 => ("sed", script(random, "s/^/> /")),
        3 => ("awk", script(random, "{ print NR, $0 }")),
        4 => ("tee", "/dev/null".to_owned()),
        5 => ("fold", "-w 9".to_owned()),
        6 => ("nl", "-ba".to_owned()),
        7 => ("base64", "-w 50".to_owned()),
        8 => ("paste", "- - -".to_owned()),
        9 => ("grep", format!("-v {}", quote::word(random, "no such text"))),
        10 => ("dd", "bs=4k iflag=fullblock status=none".to_owned()),
        11 => ("od", "-c -v".to_owned()),
        12 => ("rev", String::new()),
        13 => ("expand", String::new()),
        _ => ("sh", format!("-c {}", quote::word(random, "cat; exit 7"))),
    };
    (tool, arguments)
}

/// A tool that ends before its input does.
pub fn ender(random: &mut StdRng) -> (&'static str, String) {
    let number = random.random_range(1..40);
    match random.random_range(0..13) {
        0 | 1 => ("head", format!("-n {number}")),
        2 => ("head", format!("-c {}", number * 1_001)),
        3 => ("sed", format!("{number}q")),
        4 => (
            "sed",
            format!("-n {}", script(random, &format!("{number}{{p;q;}}"))),
        ),
        5 => ("grep", format!("-m {number} {}", script(random, ""))),
        6 => ("grep", "-q ''".to_owned()),
        7 => (
            "awk",
            script(random, &format!("NR == {number} {{ print; exit 3 }}")),
        ),
        8 => ("true", String::new()),
        9 => ("false", String::new()),
        10 => (
            "sh",
            format!("-c {}", quote::word(random, &format!("exit {number}"))),
        ),
        11 => (
            "sh",
            format!(
                "-c {}",
                quote::word(random, "read -r line; echo \"$line\"; kill -9 $$")
            ),
        ),
        _ => (
            "dd",
            format!("bs=1000 count={number} iflag=fullblock status=none"),
        ),
    }
}

/// A tool that ends with a status other than 0 and reads all its input, or none.
pub fn failer(random: &mut StdRng) -> (&'static str, String) {
    let signal = SIGNALS.choose(random).copied().unwrap_or(15);
    let status = random.random_range(1..126);
    match random.random_range(0..8) {
        0 => ("false", String::new()),
        1 => (
            "sh",
            format!("-c {}", quote::word(random, &format!("exit {status}"))),
        ),
        2 => (
            "sh",
            format!("-c {}", quote::word(random, &format!("kill -{signal} $$"))),
        ),
        3 => (
            "sh",
            format!("-c {}", quote::word(random, &format!("cat; exit {status}"))),
        ),
        4 => (
            "sh",
            format!("-c {}", quote::word(random, &format!("cat; kill -{signal} $$"))),
        ),
        5 => ("grep", quote::word(random, "no such text at all")),
        6 => (
            "awk",
            script(random, &format!("{{ print }} END {{ exit {status} }}")),
        ),
        _ => ("cat", "- no-such-file".to_owned()),
    }
}
