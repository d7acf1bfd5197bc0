//! Golden scripts of `testscripts/message`.
//!
//! `> JSON` reads a message written as JSON, `octets "HEX"` one written as octets. Both show the message, and the
//! octets that it goes out as where these differ from what came in.

use std::error::Error as StdError;
use std::fmt::Write as _;

use super::*;

struct Runner;

struct Input {
    octets: Vec<u8>,
    is_json: bool,
}

impl TryFrom<&goldenscript::Command> for Input {
    type Error = Box<dyn StdError>;

    fn try_from(command: &goldenscript::Command) -> Result<Input, Self::Error> {
        let mut args = command.consume_args();
        if command.name == "octets" {
            let digits: String = args
                .next_pos()
                .ok_or("octets need hex")?
                .split_whitespace()
                .collect();
            let pairs = digits.as_bytes().chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair)?;
                Ok::<u8, Box<dyn StdError>>(u8::from_str_radix(pair, 16)?)
            });
            return Ok(Input {
                octets: pairs.collect::<Result<_, _>>()?,
                is_json: false,
            });
        }
        let value: serde_json::Value = serde_json::from_str(&command.name)?;
        Ok(Input {
            octets: rmp_serde::to_vec(&value)?,
            is_json: true,
        })
    }
}

fn hex(octets: &[u8]) -> String {
    octets
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}

impl goldenscript::Runner for Runner {
    type Command = Input;

    fn run(&mut self, input: &Input, _: &goldenscript::Context) -> Result<String, Box<dyn StdError>> {
        let mut out = String::new();
        let message = match Message::parse(&input.octets) {
            Ok(message) => message,
            Err(error) => return Ok(format!("{error}\n")),
        };
        writeln!(out, "{message:?}")?;
        let mut octets = Vec::new();
        message.encode(&mut octets);
        assert_eq!(Message::parse(&octets)?, message, "it is not read back");
        if input.is_json || octets != input.octets {
            writeln!(out, "  {}", hex(&octets))?;
        }
        Ok(out)
    }
}

#[test]
fn golden_scripts_of_messages() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testscripts/message");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        goldenscript::run(&mut Runner, &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        count += 1;
    }
    assert!(count >= 8, "only {count} scripts in {folder}");
}
