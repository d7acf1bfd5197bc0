//! Addresses of a local cluster: 127.N.0.1 to 127.N.0.x, the first free N from 77.
//!
//! Free is where nobody listens on our ports and no other `init` is about to: each holds an abstract unix socket named
//! after the network while it works, so that two at once, under any two users, take two networks. Agents hold their
//! ports themselves once they run; those of this user's stopped clusters are kept for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::str::FromStr;

use super::holder;
use crate::error::Error;

/// First and last N of 127.N.0.0 that local clusters take.
const NETWORKS: std::ops::RangeInclusive<u8> = 77..=254;

/// Ports of an agent that have a listener already; the others follow with what listens on them.
const BOUND: [Port; 3] = [Port::Mesh, Port::Wamp, Port::Workflows];

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// HTTP.
    Gateway,
    /// Between agents.
    Mesh,
    /// WAMP RawSocket.
    Wamp,
    /// etcd v3.
    Etcd,
    /// Images.
    Registry,
    /// Daemon workflows.
    Workflows,
}

impl Port {
    /// All, in the order of `agent.toml`.
    pub const ALL: [Port; 6] = [
        Port::Gateway,
        Port::Mesh,
        Port::Wamp,
        Port::Etcd,
        Port::Registry,
        Port::Workflows,
    ];

    /// As options and files have it.
    pub fn name(self) -> &'static str {
        match self {
            Port::Gateway => "gateway",
            Port::Mesh => "mesh",
            Port::Wamp => "wamp",
            Port::Etcd => "etcd",
            Port::Registry => "registry",
            Port::Workflows => "workflows",
        }
    }

    fn usual(self) -> u16 {
        match self {
            Port::Gateway => 7070,
            Port::Mesh => 7071,
            Port::Wamp => 7072,
            Port::Etcd => 2379,
            Port::Registry => 7073,
            Port::Workflows => 7080,
        }
    }
}

/// Ports of each agent: the usual ones where none was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports(BTreeMap<Port, u16>);

impl Ports {
    /// With the choices made.
    pub fn new(chosen: &[(Port, u16)]) -> Result<Ports, Error> {
        let ports = Ports(chosen.iter().copied().collect());
        let distinct: BTreeSet<_> = Port::ALL.map(|port| ports.of(port)).into();
        if distinct.len() < Port::ALL.len() {
            return Err(Error::Usage(
                "two ports of an agent cannot be the same; give each its own --port NAME=PORT".into(),
            ));
        }
        Ok(ports)
    }

    /// The one for this.
    pub fn of(&self, port: Port) -> u16 {
        self.0.get(&port).copied().unwrap_or(port.usual())
    }
}

/// `NAME=PORT`, as `--port` takes it.
pub fn parse_port(text: &str) -> Result<(Port, u16), String> {
    let wrong = || {
        format!(
            "'{text}' is no choice of a port; write NAME=PORT with {}",
            Port::ALL.map(Port::name).join(", ")
        )
    };
    let (name, number) = text.split_once('=').ok_or_else(wrong)?;
    let port = Port::ALL
        .into_iter()
        .find(|port| port.name() == name)
        .ok_or_else(wrong)?;
    match u16::from_str(number) {
        Ok(number) if number > 0 => Ok((port, number)),
        _ => Err(wrong()),
    }
}

/// Addresses that are ours until this is dropped; by then the agents must hold them.
pub struct Claim {
    addresses: Vec<IpAddr>,
    _network: Option<UnixListener>,
}

impl Claim {
    /// The next free network; `kept` are addresses of clusters that are stopped.
    pub fn next(count: u8, ports: &Ports, kept: &BTreeSet<IpAddr>) -> Result<Claim, Error> {
        let mut last = None;
        for network in NETWORKS {
            let addresses = in_network(network, count);
            if addresses.iter().any(|address| kept.contains(address)) {
                continue;
            }
            // Held by another `init` that is at work.
            let Ok(held) = hold(network) else { continue };
            match free(&addresses, ports) {
                Ok(()) => {
                    return Ok(Claim {
                        addresses,
                        _network: Some(held),
                    });
                }
                Err(taken) => last = Some(taken),
            }
        }
        Err(last.unwrap_or_else(|| {
            Error::Local("no network from 127.77.0.0 to 127.254.0.0 is free; give --address".into())
        }))
    }

    /// From this address on; an error says which port is taken there.
    pub fn from(first: IpAddr, count: u8, ports: &Ports) -> Result<Claim, Error> {
        let IpAddr::V4(first) = first else {
            return Err(Error::Usage(format!(
                "--address {first}: an IPv4 address is needed, such as 127.90.0.1"
            )));
        };
        let begin = u32::from(first);
        let addresses =
            (0..u32::from(count)).map(|index| IpAddr::V4(Ipv4Addr::from(begin.wrapping_add(index))));
        let addresses: Vec<_> = addresses.collect();
        if addresses.iter().any(|address| !address.is_loopback()) {
            return Err(Error::Usage(format!(
                "--address {first}: a local cluster lives on loopback, 127.0.0.1 to 127.255.255.254"
            )));
        }
        free(&addresses, ports)?;
        Ok(Claim {
            addresses,
            _network: None,
        })
    }

    /// One for each agent.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
}

fn in_network(network: u8, count: u8) -> Vec<IpAddr> {
    (1..=count)
        .map(|index| IpAddr::V4(Ipv4Addr::new(127, network, 0, index)))
        .collect()
}

/// The kernel lets one process have the name, and takes it back when that ends.
fn hold(network: u8) -> std::io::Result<UnixListener> {
    let address = UnixAddress::from_abstract_name(format!("pipes-init-127.{network}"))?;
    UnixListener::bind_addr(&address)
}

fn free(addresses: &[IpAddr], ports: &Ports) -> Result<(), Error> {
    for address in addresses {
        for port in BOUND {
            let at = SocketAddr::new(*address, ports.of(port));
            TcpListener::bind(at).map_err(|error| taken(at, port, &error))?;
        }
    }
    Ok(())
}

fn taken(at: SocketAddr, port: Port, error: &std::io::Error) -> Error {
    let name = port.name();
    Error::Local(match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "port {} of {} is taken{}; choose another with --port {name}=PORT, or other addresses with --address",
            at.port(),
            at.ip(),
            holder::by(at)
        ),
        _ => format!("cannot listen at {at}: {error}; choose another port with --port {name}=PORT"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_ports() -> Ports {
        // Two that are free now at an address of its own; nobody else takes them there.
        Ports::new(&[(Port::Mesh, 47_071), (Port::Wamp, 47_072)]).unwrap()
    }

    #[test]
    fn two_at_once_take_two_networks() {
        let (none, ports) = (BTreeSet::new(), any_ports());
        let one = Claim::next(2, &ports, &none).unwrap();
        let two = Claim::next(2, &ports, &none).unwrap();
        assert_ne!(one.addresses(), two.addresses());
        assert_eq!(one.addresses().len(), 2);
    }

    #[test]
    fn a_stopped_clusters_network_is_kept_for_it() {
        let ports = any_ports();
        let first = Claim::next(1, &ports, &BTreeSet::new()).unwrap().addresses()[0];
        let next = Claim::next(1, &ports, &BTreeSet::from([first])).unwrap();
        assert_ne!(next.addresses()[0], first);
    }

    #[test]
    fn a_taken_port_is_named_with_the_option_that_changes_it() {
        let address: IpAddr = "127.200.3.4".parse().unwrap();
        let held = TcpListener::bind((address, 0)).unwrap();
        let number = held.local_addr().unwrap().port();
        let ports = Ports::new(&[(Port::Wamp, number)]).unwrap();
        let said = Claim::from(address, 1, &ports).err().unwrap().to_string();
        let (what, advice) = said.split_once("; ").unwrap();
        assert!(
            what.starts_with(&format!("port {number} of 127.200.3.4 is taken by ")),
            "{said}"
        );
        assert!(
            what.ends_with(&format!(" (process {})", std::process::id())),
            "{said}"
        );
        assert_eq!(
            advice,
            "choose another with --port wamp=PORT, or other addresses with --address"
        );
    }

    #[test]
    fn a_choice_of_a_port_is_a_name_and_a_number() {
        assert_eq!(parse_port("wamp=9000"), Ok((Port::Wamp, 9000)));
        for wrong in ["wamp", "wamp=", "wamp=0", "wamp=70000", "ssh=22"] {
            assert!(
                parse_port(wrong)
                    .unwrap_err()
                    .starts_with(&format!("'{wrong}' is no choice of a port"))
            );
        }
    }

    #[test]
    fn two_ports_of_an_agent_differ() {
        assert!(Ports::new(&[(Port::Wamp, 7071)]).is_err());
    }

    #[test]
    fn a_cluster_on_other_addresses_than_loopback_is_refused() {
        let refused = Claim::from("10.0.0.1".parse().unwrap(), 1, &any_ports());
        assert!(matches!(refused, Err(Error::Usage(_))));
    }
}
