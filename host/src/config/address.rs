//! Addresses: where to listen, which clients to trust, which hosts a site has.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::text::{Rejected, text_value};

const LISTEN_ACCEPTED: &str =
    "write an IP address and a port such as 127.0.0.1:8080, [::1]:8080, localhost:8080 or :8080";
const NETWORK_ACCEPTED: &str =
    "write an IP address or a network such as 10.0.0.0/8 or 2001:db8::/32";

/// A socket to listen on. `:8080` is every IPv4 address of the machine, `localhost:8080` is
/// `127.0.0.1:8080`, port 0 any free port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl ListenAddress {
    /// `port` on `127.0.0.1`.
    pub const fn loopback(port: u16) -> Self {
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// Whether only this machine can reach it.
    pub const fn is_loopback(self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

impl FromStr for ListenAddress {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        let refused = || Rejected::new(text, "an address to listen on", LISTEN_ACCEPTED);
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let ip = match host {
            "" => Ipv4Addr::UNSPECIFIED,
            "localhost" => Ipv4Addr::LOCALHOST,
            _ => return Err(refused()),
        };
        let port = decimal_port(port).ok_or_else(refused)?;
        Ok(Self(SocketAddr::new(IpAddr::V4(ip), port)))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An IP address, or every address that shares its first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// One address of the network.
    pub address: IpAddr,
    /// How many leading bits count: up to 32 for IPv4, 128 for IPv6.
    pub prefix: u8,
}

impl Network {
    /// Whether `client` is in the network. An IPv4 client that arrives on an IPv6 socket is an
    /// IPv4 client.
    pub fn contains(self, client: IpAddr) -> bool {
        match (self.address, client.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(client)) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.prefix))
                    .unwrap_or(0);
                own.to_bits() & mask == client.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(client)) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.prefix))
                    .unwrap_or(0);
                own.to_bits() & mask == client.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        let refused = || Rejected::new(text, "an IP address or network", NETWORK_ACCEPTED);
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refused())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| refused())?
            }
            Some(_) => return Err(refused()),
        };
        if prefix > longest {
            Err(refused())
        } else {
            Ok(Self { address, prefix })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == longest {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

text_value!(ListenAddress, "an address such as \"127.0.0.1:8080\"");
text_value!(Network, "an IP address or network such as \"10.0.0.0/8\"");

/// A port in decimal digits, without a sign.
fn decimal_port(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// Splits an authority without user information into its host, lower-case, and its port.
/// `None`: the host is not a DNS name, an IPv4 address or a bracketed IPv6 address.
pub(super) fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of a bracketed address without a port is part of the address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(decimal_port(port)?)),
        _ => (authority, None),
    };
    host_name(host).map(|host| (host, port))
}

/// `text` in lower case if it is a host: a DNS name (RFC 1123 2.1, underscore allowed because it
/// is in use), an IPv4 address, or an IPv6 address in brackets.
pub(super) fn host_name(text: &str) -> Option<String> {
    if let Some(inner) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return inner
            .parse::<Ipv6Addr>()
            .ok()
            .map(|address| format!("[{address}]"));
    }
    let label_is_sound = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let sound = text.len() <= 253 && text.split('.').all(label_is_sound);
    // A name whose last label is a number is an address, and must be a sound one.
    let numeric = text
        .rsplit('.')
        .next()
        .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    (sound && (!numeric || text.parse::<Ipv4Addr>().is_ok())).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        let check = |text: &str, expected: Option<&str>| {
            let found = text
                .parse::<ListenAddress>()
                .ok()
                .map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{text:?}");
        };
        check("127.0.0.1:8080", Some("127.0.0.1:8080"));
        check("[::1]:8080", Some("[::1]:8080"));
        check(":8080", Some("0.0.0.0:8080"));
        check("localhost:0", Some("127.0.0.1:0"));
        for text in [
            "",
            "8080",
            "127.0.0.1",
            "example.com:80",
            ":+80",
            ":70000",
            "::1:80:",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        let check = |network: &str, client: &str, expected: bool| {
            let network: Network = network.parse().unwrap();
            assert_eq!(
                network.contains(client.parse().unwrap()),
                expected,
                "{network} {client}"
            );
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.0.0.1", true);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "192.0.2.8", false);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "::1", false);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        check("::/0", "2001:db9::1", true);
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
            "ten/8",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text:?}");
        }
    }
}
