//! Faults of the network: links that carry nothing.
//!
//! Agents of a local cluster have an address each and bind their outgoing connections to it, so a packet filter on
//! loopback can tell one pair of agents from another. A cut drops packets without a word, as a pulled cable does.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};

use crate::command::{self, Input, tool};

/// Links between addresses that carry nothing, until they are healed or dropped.
pub struct Cut {
    table: String,
    healed: bool,
}

/// Tells the tables of one process apart.
static TABLES: AtomicU64 = AtomicU64::new(0);

impl Cut {
    /// Drops every packet between the two addresses, both ways.
    pub fn between(one: &str, other: &str) -> Result<Cut> {
        Cut::ways(&[(one, other), (other, one)])
    }

    /// Drops every packet from one address to the other, and none back: neither has an answer of the other, and only one
    /// of them hears what the other says.
    pub fn one_way(from: &str, to: &str) -> Result<Cut> {
        Cut::ways(&[(from, to)])
    }

    /// Drops every packet between one address and each of the others.
    pub fn around(one: &str, others: &[&str]) -> Result<Cut> {
        let ways = others.iter().flat_map(|other| [(one, *other), (*other, one)]);
        Cut::ways(&ways.collect::<Vec<_>>())
    }

    fn ways(ways: &[(&str, &str)]) -> Result<Cut> {
        let number = TABLES.fetch_add(1, Ordering::Relaxed);
        let table = format!("pipes_{}_{number}", std::process::id());
        let drops: String = ways
            .iter()
            .map(|(from, to)| format!("ip saddr {from} ip daddr {to} drop\n"))
            .collect();
        let rules = format!(
            "table ip {table} {{\nchain cut {{\ntype filter hook output priority 0; policy accept;\n{drops}}}\n}}\n"
        );
        nft(&["-f", "-"], &rules)?;
        Ok(Cut { table, healed: false })
    }

    /// Lets packets through again.
    pub fn heal(mut self) -> Result<()> {
        self.healed = true;
        nft(&["delete", "table", "ip", &self.table], "")
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if !self.healed {
            let _ = nft(&["delete", "table", "ip", &self.table], "");
        }
    }
}

fn nft(arguments: &[&str], rules: &str) -> Result<()> {
    let mut command = Command::new(tool("nft")?);
    command.args(arguments);
    let done = command::run(command, Input::Bytes(rules.as_bytes().to_vec()))?;
    if done.code() != 0 {
        bail!(
            "nft {arguments:?}: {} (cutting links needs root and a packet filter)",
            done.errors()
        );
    }
    Ok(())
}

/// Ends every connection that the first address has with the second by a reset, from the first one's side.
pub fn reset(one: &str, other: &str) -> Result<()> {
    let mut command = Command::new(tool("ss")?);
    command.args(["-tKHn", "src", one, "and", "dst", other]);
    command::run(command, Input::None)?.success()?;
    Ok(())
}

/// The bytes that went over connections between two addresses, both ways, as the kernel counts them on the
/// first one's sockets. Connections that are closed already are not in it.
pub fn traffic(one: &str, other: &str) -> Result<u64> {
    let mut command = Command::new(tool("ss")?);
    command.args(["-tiHnO", "src", one, "and", "dst", other]);
    let done = command::run(command, Input::None)?.success()?;
    let mut total = 0;
    for word in done.output().split_whitespace() {
        for field in ["bytes_sent:", "bytes_received:"] {
            if let Some(number) = word.strip_prefix(field) {
                total += number.parse::<u64>().with_context(|| word.to_owned())?;
            }
        }
    }
    Ok(total)
}
