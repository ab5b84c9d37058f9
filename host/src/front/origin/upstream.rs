//! The servers of one site as its requests see them: their addresses, how each one fares, and in
//! which order a request tries them. Shared by all workers; only requests that go to the origin
//! come here.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::sync::Notify;

use super::budget::RetryBudget;
use super::fault::{Chain, Fault};
use super::health::{Change, Health, Sign, Standing};
use super::outage::Outage;
use super::pool::EndpointId;
use super::resolve::Addresses;
use super::tls;
use crate::clock::{self, Moment};
use crate::config::{self, Origin, OriginProtocol, OriginScheme, Origins, Unusable};

/// Addresses that one request tries to connect to, at most.
pub const CONNECTS_MAX: usize = 4;

/// What an operator has set about the servers of a site.
#[derive(Clone, Debug, PartialEq)]
struct Settings {
    origins: Origins,
    protocol: OriginProtocol,
    authorities: Option<Vec<CertificateDer<'static>>>,
    /// The name that a server behind an IP address has to prove.
    host: Option<String>,
    retries: u32,
    offline: bool,
}

/// The servers of one site.
#[derive(Debug)]
pub struct Upstream {
    /// The name of the site.
    site: String,
    settings: Settings,
    /// How TLS begins, if it does.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) addresses: Mutex<Addresses>,
    /// Addresses have been looked up, or could not be.
    pub(super) looked_up: Notify,
    /// What requests may be sent once more.
    pub budget: RetryBudget,
    /// Whether any of them can be reached.
    pub outage: Arc<Outage>,
    turn: AtomicUsize,
}

/// One address of a server.
#[derive(Debug)]
pub struct Endpoint {
    /// Unlike that of any other address of any site.
    pub id: EndpointId,
    /// Which of the site's servers it belongs to.
    pub(super) server: usize,
    /// Where to connect.
    pub address: SocketAddr,
    /// The name that it has to prove; none for one that is not valid in a certificate.
    pub(super) name: Option<ServerName<'static>>,
    /// Whether it has chosen HTTP/1 when it could have chosen.
    http1: AtomicBool,
    health: Mutex<Health>,
}

impl Upstream {
    /// The servers of `site`; `before` if nothing about them has changed. `position` is the site's
    /// in the configuration.
    ///
    /// # Errors
    /// Certificates cannot be used.
    pub fn new(
        position: usize,
        site: &config::Site,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, Unusable> {
        let unusable = |clause: String| Unusable {
            key: format!("site[{position}].origin_ca"),
            clause,
        };
        let authorities = site
            .origin_ca
            .as_deref()
            .map(config::read_certificates)
            .transpose()
            .map_err(|rejected| unusable(rejected.to_string()))?;
        let settings = Settings {
            origins: site.origin.clone(),
            protocol: site.origin_protocol,
            authorities,
            host: site.host.clone(),
            retries: u32::try_from(site.retries.length()).unwrap_or(u32::MAX),
            offline: site.offline,
        };
        if let Some(before) = before
            && before.settings == settings
            && before.site == site.name
        {
            return Ok(Arc::clone(before));
        }
        let tls = match settings.origins.scheme() {
            OriginScheme::Http => None,
            OriginScheme::Https => {
                let config = tls::client_config(settings.protocol, settings.authorities.as_deref());
                Some(config.map_err(|error| unusable(error.to_string()))?)
            }
        };
        Ok(Arc::new(Self {
            site: site.name.clone(),
            tls,
            addresses: Mutex::new(Addresses::of(&settings.origins, settings.host.as_deref())),
            looked_up: Notify::new(),
            budget: RetryBudget::default(),
            outage: Arc::new(match settings.offline {
                true => Outage::ordered(),
                false => Outage::default(),
            }),
            turn: AtomicUsize::new(0),
            settings,
        }))
    }

    /// Learns from a request that began after `answers` others were answered, and was answered or
    /// ended with `fault`.
    pub(super) fn note(&self, answers: u64, fault: Option<&Fault>) {
        let now = clock::now();
        match fault {
            None => {
                if self.outage.answered() {
                    tracing::info!(site = self.site, "the origin answers again");
                }
            }
            Some(fault) if fault.is_outage() => {
                let random = RandomState::new().hash_one(now.as_millis());
                if self.outage.failed(fault.failure(), answers, now, random) {
                    let reason = Chain(fault);
                    tracing::warn!(site = self.site, %reason, "the origin is down");
                }
            }
            Some(_) => {}
        }
    }

    /// With or without TLS.
    pub fn scheme(&self) -> OriginScheme {
        self.settings.origins.scheme()
    }

    /// The version of HTTP that is spoken.
    pub(super) fn protocol(&self) -> OriginProtocol {
        self.settings.protocol
    }

    /// Whether the next connection to `endpoint` may be one that requests share, as far as is
    /// known.
    pub(super) fn may_share(&self, endpoint: &Endpoint) -> bool {
        match self.protocol() {
            OriginProtocol::Auto => self.tls.is_some() && !endpoint.http1.load(Ordering::Relaxed),
            OriginProtocol::Http1 => false,
            OriginProtocol::H2 => true,
        }
    }

    /// The servers.
    pub fn origins(&self) -> &Origins {
        &self.settings.origins
    }

    /// The servers, in the order of the configuration.
    pub fn servers(&self) -> &[Origin] {
        self.settings.origins.servers()
    }

    /// `Host` of an IP-addressed server, in place of its address.
    pub(super) fn host(&self) -> Option<&str> {
        self.settings.host.as_deref()
    }

    /// How often a request may be sent once more.
    pub fn retries(&self) -> u32 {
        self.settings.retries
    }

    /// Every address that is known, and how it stands.
    pub fn standings(&self) -> Vec<(SocketAddr, Standing)> {
        let now = clock::now();
        let endpoints = Arc::clone(&self.lock().endpoints);
        let standing = |endpoint: &Arc<Endpoint>| (endpoint.address, endpoint.lock().standing(now));
        endpoints.iter().map(standing).collect()
    }

    /// The addresses that one request tries, in order: those that are up in turn, one that may be
    /// back where it is its turn. If none is up the one that is due next is tried all the same.
    pub(super) fn route(&self, endpoints: &[Arc<Endpoint>], now: Moment) -> Vec<Attempt> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (later, first) = endpoints.split_at(turn % endpoints.len().max(1));
        let mut route = Vec::new();
        for endpoint in first.iter().chain(later) {
            let mut health = endpoint.lock();
            match health.standing(now) {
                Standing::Up => route.push(self.attempt(endpoint, false)),
                Standing::Due if route.is_empty() => {
                    health.begin_probe();
                    route.push(self.attempt(endpoint, true));
                }
                Standing::Due | Standing::Down(_) => {}
            }
            if route.len() == CONNECTS_MAX {
                break;
            }
        }
        if route.is_empty() {
            let due = |endpoint: &&Arc<Endpoint>| match endpoint.lock().standing(now) {
                Standing::Down(until) => until,
                Standing::Up | Standing::Due => Moment::default(),
            };
            let next = endpoints.iter().min_by_key(due);
            route.extend(next.map(|endpoint| self.attempt(endpoint, true)));
        }
        route
    }

    fn attempt(&self, endpoint: &Arc<Endpoint>, probe: bool) -> Attempt {
        Attempt {
            site: self.site.clone(),
            endpoint: Arc::clone(endpoint),
            probe,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Addresses> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint {
    /// The address `address` of the server at position `server`. `host` is the name that it has to
    /// prove if it was given by its address.
    pub(super) fn new(
        server: usize,
        origin: &Origin,
        address: SocketAddr,
        host: Option<&str>,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let literal = origin.host.parse::<IpAddr>().is_ok();
        let name = host
            .filter(|_| literal)
            .map_or(origin.host.as_str(), |host| {
                host.rsplit_once(':').map_or(host, |(name, _)| name)
            });
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            server,
            address,
            name: ServerName::try_from(name.to_owned()).ok(),
            http1: AtomicBool::new(false),
            health: Mutex::default(),
        })
    }

    /// It has chosen HTTP/2, or HTTP/1.
    pub(super) fn chose(&self, http2: bool) {
        self.http1.store(!http2, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address that a request is about to try.
#[derive(Debug)]
pub(super) struct Attempt {
    site: String,
    pub(super) endpoint: Arc<Endpoint>,
    /// Whether it is tried although it is down.
    probe: bool,
}

impl Attempt {
    /// It answered.
    pub(super) fn answered(&mut self) {
        self.note(Sign::Answered, None);
    }

    /// It did not, for the reason `fault`.
    pub(super) fn failed(&mut self, sign: Sign, fault: &Fault) {
        self.note(sign, Some(fault));
    }

    fn note(&mut self, sign: Sign, fault: Option<&Fault>) {
        let jitter = RandomState::new().hash_one(self.endpoint.id) & u64::from(u16::MAX);
        let jitter = u16::try_from(jitter).unwrap_or_default();
        let probe = std::mem::take(&mut self.probe);
        let change = self.endpoint.lock().note(sign, probe, clock::now(), jitter);
        let (site, address) = (&self.site, self.endpoint.address);
        match (change, fault) {
            (Some(Change::WentDown), Some(fault)) => {
                let reason = Chain(fault);
                tracing::warn!(site, %address, %reason, "an address of the origin is down");
            }
            (Some(Change::CameBack), _) => {
                tracing::info!(site, %address, "an address of the origin is back");
            }
            _ => {}
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.probe {
            self.endpoint.lock().give_up_probe();
        }
    }
}
