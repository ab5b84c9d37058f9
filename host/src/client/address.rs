//! Where an admin API is looked for.
//!
//! Takes every form that `admin.listen` takes, so that one variable serves both ends.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::config::{Origin, OriginScheme, Rejected};

/// The port of an admin API that names none.
const PORT: u16 = 9080;

/// Where an admin API listens: a host, and a port that is 9080 unless it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAddress {
    host: String,
    port: u16,
}

impl AdminAddress {
    /// `host:port`, as `Host` carries it.
    pub(super) fn authority(&self) -> String {
        Origin {
            scheme: OriginScheme::Http,
            host: self.host.clone(),
            port: self.port,
        }
        .address()
    }
}

impl From<SocketAddr> for AdminAddress {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl FromStr for AdminAddress {
    type Err = Rejected;

    /// Takes what `admin.listen` takes, so that one variable serves both ends; an address that
    /// stands for the whole machine is asked on its loopback.
    fn from_str(text: &str) -> Result<Self, Rejected> {
        let accepted = "write HOST or HOST:PORT, such as 127.0.0.1:9080";
        let rejected = || Rejected::new(text, "the address of an admin API", accepted);
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let bare = if bare.starts_with(':') {
            format!("127.0.0.1{bare}")
        } else {
            bare.to_owned()
        };
        let origin: Origin = format!("http://{bare}").parse().map_err(|_| rejected())?;
        // A port that is left out and port 80 look alike in an origin.
        let named = bare.trim_end_matches('/').ends_with(":80");
        let port = if origin.port == 80 && !named {
            PORT
        } else {
            origin.port
        };
        let host = match origin.host.as_str() {
            "0.0.0.0" => Ipv4Addr::LOCALHOST.to_string(),
            "::" => Ipv6Addr::LOCALHOST.to_string(),
            host => host.to_owned(),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: &str| {
            assert_eq!(
                text.parse::<AdminAddress>().unwrap().to_string(),
                expected,
                "{text}"
            );
        };
        check("127.0.0.1:9080", "127.0.0.1:9080");
        check("127.0.0.1", "127.0.0.1:9080");
        check("localhost:80", "localhost:80");
        check("http://edge.example:9999/", "edge.example:9999");
        check(":9081", "127.0.0.1:9081");
        check("0.0.0.0:9081", "127.0.0.1:9081");
        check("[::]:9081", "[::1]:9081");
        for text in ["", "https://edge", "a b", "host:port", "host/path"] {
            let error = text.parse::<AdminAddress>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "\"{text}\" is not the address of an admin API; write HOST or HOST:PORT, \
                     such as 127.0.0.1:9080"
                )
            );
        }
    }
}
