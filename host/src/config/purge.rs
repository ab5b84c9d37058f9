//! The section `[purge]`: who may purge by the method `PURGE`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use super::Network;

/// The section `[purge]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Purge {
    /// Clients that may send `PURGE`, by the address of their connection; an empty list is nobody.
    /// Default: this machine, `127.0.0.0/8` and `::1`.
    pub allow: Vec<Network>,
}

impl Default for Purge {
    fn default() -> Self {
        let network = |address, prefix| Network { address, prefix };
        Self {
            allow: vec![
                network(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
                network(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
            ],
        }
    }
}
