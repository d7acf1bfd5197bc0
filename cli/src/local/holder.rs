//! Who holds a port, as far as this user may see.

use std::net::SocketAddr;

use listeners::{Protocol, SocketState};

/// ` by COMMAND (process N)`, of who listens at this address or at every address of its port; nothing where it cannot be
/// seen.
pub fn by(address: SocketAddr) -> String {
    let holds = |socket: SocketAddr| {
        socket.port() == address.port() && (socket.ip() == address.ip() || socket.ip().is_unspecified())
    };
    let all = listeners::get_all().unwrap_or_default();
    all.iter()
        .find(|held| {
            (held.protocol, held.state) == (Protocol::TCP, SocketState::Listen) && holds(held.socket)
        })
        .map_or_else(String::new, |held| {
            format!(" by {} (process {})", held.process.name, held.process.pid)
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
