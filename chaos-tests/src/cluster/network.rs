//! A cluster's network of loopback: its own as long as the cluster lives, its agents up or not.
//!
//! `pipes init` takes a name of the kernel's while it looks whether a network is free, and passes over one whose name is
//! taken. A cluster takes the name of its own network, so that no other test's `init` finds it free while all of its
//! agents are down.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use anyhow::Result;

use crate::wait::wait_for;

/// An `init` that looks at it meanwhile finds it taken and goes on.
const LOOKED_AT_LIMIT: Duration = Duration::from_secs(5);

/// Holds the network in which the first agent has this address; `None` where it is none of those that `init` chooses.
pub(super) fn hold(first: &str) -> Result<Option<UnixListener>> {
    let Some(network) = first.strip_suffix(".0.1") else {
        return Ok(None);
    };
    let name = SocketAddr::from_abstract_name(format!("pipes-init-{network}"))?;
    wait_for("the cluster's network is its own", LOOKED_AT_LIMIT, || {
        Ok(UnixListener::bind_addr(&name)?)
    })
    .map(Some)
}
