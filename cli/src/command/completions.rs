//! `pipes completions SHELL`

use clap_complete::Shell;

use crate::error::Error;
use crate::output;

/// A script that completes commands and options in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "In bash: eval \"$(pipes completions bash)\"")]
pub struct Arguments {
    /// Which shell
    shell: Shell,
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::definition(), "pipes", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
