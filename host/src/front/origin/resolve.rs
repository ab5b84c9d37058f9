//! From the names of a site's servers to addresses: looked up by one request for all, kept for a
//! while, and kept beyond that if the name server fails.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;

use super::fault::Fault;
use super::upstream::{Endpoint, Upstream};
use crate::clock::{self, Moment};
use crate::config::{Origin, Origins};
use crate::tasks::LocalExecutor;

/// How long addresses are used before their names are looked up again.
const KEPT: Duration = Duration::from_secs(30);
/// How long a failed look-up is left alone.
const FAILED: Duration = Duration::from_secs(3);
/// Addresses of one site, at most.
const ADDRESSES_MAX: usize = 64;

/// The addresses of the servers of a site.
#[derive(Debug)]
pub struct Addresses {
    pub(super) endpoints: Arc<[Arc<Endpoint>]>,
    /// When names are looked up again; none if there are only addresses.
    due: Option<Moment>,
    looking: bool,
    /// Why there are none.
    failure: String,
}

impl Addresses {
    /// Those that are known without asking anyone.
    pub(super) fn of(origins: &Origins, host: Option<&str>) -> Self {
        let mut literal = Vec::new();
        for (server, origin) in origins.servers().iter().enumerate() {
            if let Ok(ip) = origin.host.parse::<IpAddr>() {
                let address = SocketAddr::new(ip, origin.port);
                literal.push(Endpoint::new(server, origin, address, host));
            }
        }
        let all = literal.len() == origins.servers().len();
        Self {
            endpoints: if all { literal.into() } else { Arc::default() },
            due: (!all).then(Moment::default),
            looking: false,
            failure: String::new(),
        }
    }

    /// Takes over what was looked up: for each server its addresses, or why it has none.
    fn learn(
        &mut self,
        found: Vec<Result<Vec<SocketAddr>, String>>,
        origins: &[Origin],
        host: Option<&str>,
    ) {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        let mut all = true;
        for (server, (origin, found)) in origins.iter().zip(found).enumerate() {
            let known = self.endpoints.iter().filter(|known| known.server == server);
            let addresses = match found {
                Ok(addresses) => addresses,
                Err(failure) => {
                    // A name server that fails is no reason to forget what it said.
                    all = false;
                    self.failure = format!("{}: {failure}", origin.host);
                    known.clone().map(|known| known.address).collect()
                }
            };
            for address in addresses {
                let same =
                    |other: &&Arc<Endpoint>| other.server == server && other.address == address;
                if endpoints.len() == ADDRESSES_MAX || endpoints.iter().any(|other| same(&other)) {
                    continue;
                }
                endpoints.push(
                    known
                        .clone()
                        .find(same)
                        .map_or_else(|| Endpoint::new(server, origin, address, host), Arc::clone),
                );
            }
        }
        self.endpoints = endpoints.into();
        self.due = Some(clock::now().after(if all { KEPT } else { FAILED }));
    }
}

impl Upstream {
    /// The addresses, at least one; waits for them no longer than `limit`.
    pub(super) async fn endpoints(
        self: &Arc<Self>,
        limit: Duration,
    ) -> Result<Arc<[Arc<Endpoint>]>, Fault> {
        let known = tokio::time::timeout(limit, async {
            loop {
                let mut looked_up = std::pin::pin!(self.looked_up.notified());
                // Registered before the list is read, so that no wake-up is lost.
                looked_up.as_mut().enable();
                if let Some(known) = self.known() {
                    return known;
                }
                looked_up.await;
            }
        });
        known.await.unwrap_or(Err(Fault::ConnectTimedOut))
    }

    /// The addresses or why there are none, unless that is being found out. Has names looked up
    /// again where that is due.
    fn known(self: &Arc<Self>) -> Option<Result<Arc<[Arc<Endpoint>]>, Fault>> {
        let mut addresses = self.lock();
        let due = addresses.due.is_some_and(|due| clock::now() >= due);
        if due && !addresses.looking {
            addresses.looking = true;
            LocalExecutor.execute(Looking(Arc::clone(self)).look_up());
        }
        if !addresses.endpoints.is_empty() {
            return Some(Ok(Arc::clone(&addresses.endpoints)));
        }
        (!addresses.looking).then(|| Err(Fault::Name(addresses.failure.clone())))
    }
}

/// The duty to look names up; whoever waits is woken however it ends.
struct Looking(Arc<Upstream>);

impl Looking {
    async fn look_up(self) {
        let upstream = &self.0;
        let mut found = Vec::new();
        for origin in upstream.servers() {
            let addresses = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await;
            found.push(match addresses.map(Iterator::collect::<Vec<_>>) {
                Ok(addresses) if addresses.is_empty() => Err("no address".to_owned()),
                Ok(addresses) => Ok(addresses),
                Err(error) => {
                    tracing::warn!(host = origin.host, %error, "the name of an origin cannot be resolved");
                    Err(error.to_string())
                }
            });
        }
        upstream
            .lock()
            .learn(found, upstream.servers(), upstream.host());
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.lock().looking = false;
        self.0.looked_up.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(text: &str) -> Origins {
        text.parse::<Origin>().unwrap().into()
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_known_without_asking_and_names_are_not() {
        let literal = Addresses::of(&origins("http://[::1]:81"), None);
        assert_eq!(literal.endpoints[0].address, socket("[::1]:81"));
        assert_eq!(literal.due, None);
        let named = Addresses::of(&origins("http://a"), None);
        assert!(named.endpoints.is_empty() && named.due.is_some());
    }

    #[test]
    fn what_stays_keeps_its_health_and_what_fails_is_not_forgotten() {
        let origins = origins("http://a");
        let mut addresses = Addresses::of(&origins, None);
        let [one, two, three] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].map(socket);
        let mut learn = |found| {
            addresses.learn(vec![found], origins.servers(), None);
            let ids: Vec<_> = addresses.endpoints.iter().map(|each| each.id).collect();
            let found: Vec<_> = addresses
                .endpoints
                .iter()
                .map(|each| each.address)
                .collect();
            (found, ids)
        };
        let (found, ids) = learn(Ok(vec![one, two, one]));
        assert_eq!(found, [one, two]);
        let (found, later) = learn(Ok(vec![two, three]));
        assert_eq!((found, later[0]), (vec![two, three], ids[1]));
        let (found, last) = learn(Err("gone".to_owned()));
        assert_eq!((found, last), (vec![two, three], later));
    }

    #[test]
    fn a_name_with_endless_addresses_is_cut_short() {
        let origins = origins("http://a");
        let mut addresses = Addresses::of(&origins, None);
        let many = (0..1_000_u16)
            .map(|port| SocketAddr::new(IpAddr::from([10, 0, 0, 1]), port))
            .collect();
        addresses.learn(vec![Ok(many)], origins.servers(), None);
        assert_eq!(addresses.endpoints.len(), ADDRESSES_MAX);
    }
}
