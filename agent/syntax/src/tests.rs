//! Golden scripts of `testscripts/syntax`, and the same lines read by a real `sh`.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::process::Command;

use super::*;

/// `> LINE` reads a line; `line "..."` too, with goldenscript's escapes; `file "..."` reads a file.
struct Runner;

struct Input {
    text: String,
    is_file: bool,
}

impl TryFrom<&goldenscript::Command> for Input {
    type Error = Box<dyn StdError>;

    fn try_from(command: &goldenscript::Command) -> Result<Input, Self::Error> {
        let mut args = command.consume_args();
        let (text, is_file) = match command.name.as_str() {
            "line" => (args.next_pos().ok_or("line needs a text")?.to_owned(), false),
            "file" => (args.next_pos().ok_or("file needs a text")?.to_owned(), true),
            literal => (literal.to_owned(), false),
        };
        Ok(Input { text, is_file })
    }
}

impl goldenscript::Runner for Runner {
    type Command = Input;

    fn run(&mut self, input: &Input, _: &goldenscript::Context) -> Result<String, Box<dyn StdError>> {
        let mut out = String::new();
        let parsed = if input.is_file {
            parse_file(&input.text)
        } else {
            parse(&input.text)
        };
        match parsed {
            Ok(line) => {
                for stage in &line.stages {
                    write!(out, "{}", stage.name)?;
                    for arg in &stage.args {
                        write!(out, " [{}]", String::from_utf8_lossy(arg).escape_debug())?;
                    }
                    for (name, value) in &stage.assignments {
                        write!(out, " {name}=[{}]", String::from_utf8_lossy(value).escape_debug())?;
                    }
                    writeln!(out)?;
                }
                let quoted = written(&line);
                let again = parse(&quoted).map_err(|error| format!("{quoted}: {error}"))?;
                assert_eq!(again, line, "{quoted} is not read back");
            }
            Err(error) => {
                assert!(
                    input.text.is_char_boundary(error.offset),
                    "{} is no place in it",
                    error.offset
                );
                let shown = input.text[..error.offset].escape_debug().to_string();
                let rest = input.text[error.offset..].escape_debug().to_string();
                writeln!(out, "{shown}▸{rest}\n  byte {}: {error}", error.offset)?;
            }
        }
        Ok(out)
    }
}

/// The line in one line, its words quoted where that is needed.
fn written(line: &Line) -> String {
    let text = |bytes: &[u8]| quote(&String::from_utf8_lossy(bytes));
    let stages = line.stages.iter().map(|stage| {
        let variables = stage.assignments.iter();
        let mut words: Vec<String> = variables
            .map(|(name, value)| format!("{name}={}", text(value)))
            .collect();
        // Quoted where `sh` would take the name for an assignment.
        words.push(match stage.name.contains('=') {
            true => format!("'{}'", stage.name),
            false => quote(&stage.name),
        });
        words.extend(stage.args.iter().map(|arg| text(arg)));
        words.join(" ")
    });
    stages.collect::<Vec<_>>().join(" | ")
}

#[test]
fn golden_scripts_of_syntax() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testscripts/syntax");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        goldenscript::run(&mut Runner, &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        count += 1;
    }
    assert!(count >= 10, "only {count} scripts in {folder}");
}

/// What `sh` gives a command that prints its own arguments, NUL after each.
fn as_sh_reads(line: &str) -> Option<Vec<Vec<u8>>> {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("show");
    std::fs::write(&script, "#!/bin/sh\nprintf '%s\\0' \"V=$V\" \"$@\"\n").unwrap();
    let made = Command::new("chmod").arg("755").arg(&script).status().unwrap();
    assert!(made.success());
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let mut sh = Command::new("sh");
    let output = sh
        .args(["-c", line])
        .env("PATH", path)
        .env("V", "")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let words = output.stdout.strip_suffix(b"\0")?;
    output
        .status
        .success()
        .then(|| words.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

#[test]
fn words_are_those_that_sh_reads() {
    let pieces = [
        "a", " ", "'", "\"", "\\", "\\\\", "\n", "\\\n", "*x", "[z", "V=", "=", "é", "\t", "'a b'",
        "\"a'b\"", "#", "{a,b}", "!", "\"\\$\"", "'$x'", ":", "%", "\\~", "''", "\"\"",
    ];
    // A fixed sequence (an LCG of Knuth's), so that a failure comes again.
    let mut state: u64 = 4;
    let mut pick = |count: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % count
    };
    let mut compared = 0;
    for _ in 0..400 {
        let leading = if pick(4) == 0 { "V=" } else { "" };
        let piece_count = 1 + pick(7);
        let rest: String = (0..piece_count).map(|_| pieces[pick(pieces.len())]).collect();
        let line = if leading.is_empty() {
            format!("show {rest}")
        } else {
            format!("V=1{rest} show x")
        };
        let Ok(read) = parse(&line) else { continue };
        if read.stages.len() != 1 || read.stages[0].name != "show" {
            continue;
        }
        let stage = &read.stages[0];
        let value = stage
            .assignments
            .iter()
            .find(|(name, _)| name == "V")
            .map_or(Vec::new(), |(_, value)| value.clone());
        let mut ours = vec![[b"V=".to_vec(), value].concat()];
        ours.extend(stage.args.iter().cloned());
        assert_eq!(Some(ours), as_sh_reads(&line), "{line:?}");
        compared += 1;
    }
    assert!(compared > 100, "only {compared} lines could be compared");
}

#[test]
fn any_text_is_read_or_refused_with_a_place_in_it() {
    let alphabet: Vec<char> = "ab =|&'\"\\$`#~\n\té(<;@1".chars().collect();
    let mut state: u64 = 7;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..state % 12 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            text.push(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        for result in [parse(&text), parse_file(&text)] {
            match result {
                Ok(line) => assert!(line.stages.iter().all(|stage| !stage.name.is_empty()), "{text:?}"),
                Err(error) => assert!(text.is_char_boundary(error.offset), "{text:?}: {error:?}"),
            }
        }
    }
}

#[test]
fn bounds_are_refused_beyond() {
    let most = vec!["a"; STAGES_MAX].join("|");
    assert_eq!(parse(&most).unwrap().stages.len(), STAGES_MAX);
    assert!(
        parse(&format!("{most}|a"))
            .unwrap_err()
            .message
            .contains("at most 128 stages")
    );
    assert!(parse(&"a".repeat(LINE_LENGTH_MAX)).is_ok());
    assert!(
        parse(&"a".repeat(LINE_LENGTH_MAX + 1))
            .unwrap_err()
            .message
            .contains("--file")
    );
}
