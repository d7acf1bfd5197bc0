//! Who holds a port, as far as this user may see: from the kernel's table of sockets to the process that has one open.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// ` by COMMAND (process N)`; nothing where it cannot be seen.
pub fn by(address: SocketAddr) -> String {
    inode(address)
        .and_then(|inode| process(&inode))
        .map_or_else(String::new, |(pid, command)| {
            format!(" by {command} (process {pid})")
        })
}

/// Of the socket that listens at this address, or at every address of its port.
fn inode(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    let [exact, any] = [ip.octets(), [0; 4]].map(|octets| format!("{:08X}", u32::from_ne_bytes(octets)));
    let any_six = "0".repeat(32);
    [
        ("/proc/net/tcp", vec![exact, any]),
        ("/proc/net/tcp6", vec![any_six]),
    ]
    .into_iter()
    .find_map(|(table, hosts)| {
        let wanted: Vec<String> = hosts
            .iter()
            .map(|host| format!("{host}:{:04X}", address.port()))
            .collect();
        listener(&fs::read_to_string(table).ok()?, &wanted)
    })
}

/// The inode of the first that listens at one of these.
fn listener(table: &str, wanted: &[String]) -> Option<String> {
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        // 0A is LISTEN (include/net/tcp_states.h of Linux).
        (*state == "0A" && wanted.iter().any(|wanted| wanted == local)).then(|| (*inode).to_owned())
    })
}

fn process(inode: &str) -> Option<(u32, String)> {
    let socket = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        // Another user's are not ours to read.
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        descriptors.find(|entry| {
            fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == socket.as_str())
        })?;
        let command = fs::read_to_string(process.path().join("comm")).ok()?;
        Some((pid, command.trim_end().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_holder_is_found_at_its_address_and_at_every_address() {
        let own = format!("(process {})", std::process::id());
        let at = |listening: &str| {
            let held = TcpListener::bind(listening).unwrap();
            let port = held.local_addr().unwrap().port();
            by(SocketAddr::from(([127, 0, 0, 1], port)))
        };
        for listening in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            // A machine may have no IPv6.
            if TcpListener::bind(listening).is_ok() {
                let said = at(listening);
                assert!(
                    said.starts_with(" by ") && said.ends_with(&own),
                    "{listening}: {said:?}"
                );
            }
        }
        assert_eq!(at("127.0.0.2:0"), "", "held elsewhere");
    }
}
