//! Seeded random workflow lines out of real tools.
//!
//! ```text
//! seed 7  ->  input megabytes   tr a-z A-Z | 'grep' -v "X Y" | sed 12q
//! ```
//!
//! A line is one of three shapes: any tools in any order; a long source, filters that let it through, and a reader
//! that ends early; or one with a stage before the last that fails. Only what is deterministic in `sh` itself is
//! made: no program that reads a part of what its reader then takes on (`sh -c 'head -1; cat'`), none that shows
//! the time, its process id or its surroundings.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::inputs::{INPUTS, Kind};
use super::quote;
use super::tools::{self, TOOLS};

/// At most so many stages a line.
const STAGES_MAX: usize = 6;

/// One stage of a line.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Leading assignments, as written; empty or with a space at the end.
    pub assignments: String,
    /// The tool, plain.
    pub tool: String,
    /// The tool as written (it may be quoted) and its arguments as written.
    pub words: String,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its stages.
    pub stages: Vec<Stage>,
    /// What is given to its stdin.
    pub input: Kind,
}

impl Line {
    /// As a user writes it.
    pub fn text(&self) -> String {
        let stages: Vec<String> = self
            .stages
            .iter()
            .map(|stage| format!("{}{}", stage.assignments, stage.words))
            .collect();
        stages.join(" | ")
    }
}

/// How often each tool and each kind of input occurs in these lines (once a line).
pub fn census(lines: &[Line]) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = TOOLS.iter().map(|tool| ((*tool).to_owned(), 0)).collect();
    for kind in INPUTS {
        counts.insert(format!("input {kind:?}"), 0);
    }
    for line in lines {
        let mut tools: Vec<&str> = line.stages.iter().map(|stage| stage.tool.as_str()).collect();
        tools.sort_unstable();
        tools.dedup();
        for tool in tools {
            *counts.entry(tool.to_owned()).or_default() += 1;
        }
        *counts.entry(format!("input {:?}", line.input)).or_default() += 1;
    }
    counts
}

/// `count` lines from a seed.
pub fn lines(seed: u64, count: usize) -> Vec<Line> {
    let mut random = crate::random::generator(seed);
    (0..count).map(|number| line(&mut random, number)).collect()
}

fn line(random: &mut StdRng, number: usize) -> Line {
    // The kinds and the tools take turns, so that each is in many lines whatever the seed.
    let input = INPUTS[number % INPUTS.len()];
    let turn = TOOLS[(number / 3) % TOOLS.len()];
    let stages = match number % 3 {
        0 => any(random, turn),
        1 => early(random),
        _ => failing(random, turn),
    };
    let input = if number % 3 == 1 && !stages[0].1 {
        Kind::Megabytes
    } else {
        input
    };
    Line {
        stages: stages.into_iter().map(|(stage, _)| stage).collect(),
        input,
    }
}

/// A stage, and whether it makes its output without reading any input.
type Made = (Stage, bool);

fn made(random: &mut StdRng, tool: &str, arguments: &str, is_source: bool) -> Made {
    let name = if random.random_ratio(1, 10) {
        quote::word(random, tool)
    } else {
        tool.to_owned()
    };
    let assignments = match random.random_range(0..12) {
        0 => "LC_ALL=C ".to_owned(),
        1 => format!("X={} Y2=b ", quote::word(random, "a 'b")),
        _ => String::new(),
    };
    let words = if arguments.is_empty() {
        name
    } else {
        format!("{name} {arguments}")
    };
    (
        Stage {
            assignments,
            tool: tool.to_owned(),
            words,
        },
        is_source,
    )
}

fn any(random: &mut StdRng, turn: &str) -> Vec<Made> {
    let length = random.random_range(1..=STAGES_MAX);
    let place = random.random_range(0..length);
    (0..length)
        .map(|index| {
            let tool = if index == place {
                turn
            } else {
                TOOLS.choose(random).copied().unwrap_or("cat")
            };
            let (tool, arguments) = tools::finite(random, tool);
            made(random, tool, &arguments, tools::is_source(tool))
        })
        .collect()
}

fn early(random: &mut StdRng) -> Vec<Made> {
    let mut stages = Vec::new();
    match random.random_range(0..3) {
        0 => {
            let arguments = ["", "abc y", "''"].choose(random).copied().unwrap_or("");
            stages.push(made(random, "yes", arguments, true));
        }
        1 => {
            let arguments = format!("1 {}", random.random_range(900_000..2_000_000));
            stages.push(made(random, "seq", &arguments, true));
        }
        _ => stages.push(made(random, "cat", "", false)),
    }
    for _ in 0..random.random_range(0..STAGES_MAX - 2) {
        let (tool, arguments) = tools::passing(random);
        stages.push(made(random, tool, &arguments, false));
    }
    let (tool, arguments) = tools::ender(random);
    stages.push(made(random, tool, &arguments, false));
    if stages.len() < STAGES_MAX && random.random_ratio(1, 3) {
        let (tool, arguments) = tools::finite(random, "wc");
        stages.push(made(random, tool, &arguments, false));
    }
    stages
}

fn failing(random: &mut StdRng, turn: &str) -> Vec<Made> {
    let mut stages = Vec::new();
    for _ in 0..random.random_range(0..2) {
        let (tool, arguments) = tools::finite(random, turn);
        stages.push(made(random, tool, &arguments, tools::is_source(tool)));
    }
    let (tool, arguments) = tools::failer(random);
    stages.push(made(random, tool, &arguments, tool == "false"));
    for _ in 0..random.random_range(1..=STAGES_MAX - stages.len()) {
        let tool = TOOLS.choose(random).copied().unwrap_or("cat");
        let (tool, arguments) = tools::finite(random, tool);
        stages.push(made(random, tool, &arguments, tools::is_source(tool)));
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_lines() {
        let text = |seed| lines(seed, 50).iter().map(Line::text).collect::<Vec<_>>();
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn every_tool_and_kind_of_input_is_in_twenty_lines_of_520() {
        for seed in 0..20 {
            for (what, count) in census(&lines(seed, 520)) {
                assert!(count >= 20, "seed {seed}: {what} is in {count} lines only");
            }
        }
    }
}
