//! `pipes version`

use crate::error::Error;
use crate::output;

/// The version of this program
#[derive(Debug, clap::Args)]
pub struct Arguments {}

pub fn run(_: Arguments) -> Result<(), Error> {
    output::print(&format!("pipes {}\n", env!("CARGO_PKG_VERSION")))
}
