//! Listings as golden scripts: `testscripts/output/*` hold objects of each kind and what is shown of them.

use std::error::Error;

use super::*;
use crate::object;

struct Shown;

impl goldenscript::Runner for Shown {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &Self::Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let listing = match args.next_pos().ok_or("table, json or ids")? {
            "table" => Listing {
                format: Format::Table,
                quiet: false,
            },
            "json" => Listing {
                format: Format::Json,
                quiet: false,
            },
            "ids" => Listing {
                format: Format::Table,
                quiet: true,
            },
            other => return Err(format!("no way to show: {other}").into()),
        };
        let json = args.next_pos().ok_or("the agent's objects in JSON")?.to_owned();
        let shown = match command.name.as_str() {
            "node" => listing.render(&serde_json::from_str::<Vec<object::Node>>(&json)?),
            "service" => listing.render(&serde_json::from_str::<Vec<object::Service>>(&json)?),
            "run" => listing.render(&serde_json::from_str::<Vec<object::Run>>(&json)?),
            "workflow" => listing.render(&serde_json::from_str::<Vec<object::Workflow>>(&json)?),
            "cluster" => listing.render(&serde_json::from_str::<Vec<object::Cluster>>(&json)?),
            "context" => listing.render(&serde_json::from_str::<Vec<object::Context>>(&json)?),
            "token" => listing.render(&serde_json::from_str::<Vec<object::Token>>(&json)?),
            other => return Err(format!("no object: {other}").into()),
        };
        Ok(shown)
    }
}

#[test]
fn listings_are_shown_as_recorded() {
    for name in ["tables", "json", "ids"] {
        goldenscript::run(&mut Shown, format!("testscripts/output/{name}")).unwrap();
    }
}
