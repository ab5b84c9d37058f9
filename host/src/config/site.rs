//! A `[[site]]`: which authorities it answers for, where its responses come from, which policies
//! decide, and the bounds they decide within.

use std::path::PathBuf;

use serde::Deserialize;

use super::number::{ByteSize, Count, TimeSpan};
use super::origin::{Origin, OriginProtocol, Origins};
use super::policy::Policies;
use super::status::StatusTtl;
use super::text::words;

/// One site.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Names the site in commands and metrics. Default: the first host, `default` for a site
    /// without hosts. Never empty once loaded, and no two sites share one.
    #[serde(default)]
    pub name: String,
    /// Authorities, without a port, that the site answers for, lower-case. Empty: every
    /// authority that no other site has.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Where responses come from: one server, or several that answer alike. `origins` is the same
    /// key.
    #[serde(alias = "origins")]
    pub origin: Origins,
    /// File of certificates in PEM form that sign those of `https` origins. Default (unset): those
    /// that the platform trusts.
    #[serde(default)]
    pub origin_ca: Option<PathBuf>,
    /// Which version of HTTP origins are asked in.
    #[serde(default)]
    pub origin_protocol: OriginProtocol,
    /// How often a request is sent once more after an origin closed the connection without an
    /// answer, if it may be. 0 to 10, default 2.
    #[serde(default = "retries")]
    pub retries: Count,
    /// Whether the origin is left alone: what is stored answers, as it does while the origin is
    /// down, and nothing else does.
    #[serde(default)]
    pub offline: bool,
    /// `Host` towards the origin. Default (unset): the client's.
    #[serde(default)]
    pub host: Option<String>,
    /// Which request fields an origin sees on a fill that may be stored.
    #[serde(default)]
    pub forward: Forward,
    /// Codings that content is given on its way from the origin, best first. Default (empty): it
    /// stays as it came.
    #[serde(default)]
    pub compress: Vec<Coding>,
    /// Which demands of requests are met at the origin's expense.
    #[serde(default)]
    pub honour: Honour,
    /// Lifetime of a response that says nothing of it and allows no heuristic. Default (unset):
    /// none.
    #[serde(default)]
    pub default_ttl: Option<TimeSpan>,
    /// Lifetimes by status, such as `404 = "10s"` or `5xx = "1s"`, of responses that say nothing
    /// of it, in place of a guess; within `ttl_min` and `ttl_max`. Default (empty): none.
    #[serde(default)]
    pub status_ttl: StatusTtl,
    /// How long a response that says nothing of it may be used stale while it is validated.
    /// Default (unset): not at all.
    #[serde(default)]
    pub stale_while_revalidate: Option<TimeSpan>,
    /// How long a response that says nothing of it may be used stale while the origin fails.
    /// Default (unset): not at all.
    #[serde(default)]
    pub stale_if_error: Option<TimeSpan>,
    /// How long it is remembered that the response to a key was not for sharing, so that requests
    /// for it do not wait for one another; 0s never. At most 1d, default 2m.
    #[serde(default = "hit_for_miss")]
    pub hit_for_miss: TimeSpan,
    /// Shortest lifetime a policy may give. Default (unset): no bound.
    #[serde(default)]
    pub ttl_min: Option<TimeSpan>,
    /// Longest lifetime a policy may give. Default (unset): no bound.
    #[serde(default)]
    pub ttl_max: Option<TimeSpan>,
    /// Whose failure to write marks a store as failed.
    #[serde(default)]
    pub write_policy: WritePolicy,
    /// What the site adds to the capacity of its eviction domain (see [`super::shares`]).
    /// Default (unset): an equal share of what is left.
    #[serde(default)]
    pub memory: Option<ByteSize>,
    /// Who decides.
    #[serde(default)]
    pub policy: Policies,
}

const fn hit_for_miss() -> TimeSpan {
    TimeSpan::seconds(120)
}

const fn retries() -> Count {
    Count::new(2)
}

impl Site {
    /// A site for every authority, called `default`, with all else at its default.
    pub fn catch_all(origin: Origin) -> Self {
        Self {
            name: "default".to_owned(),
            hosts: Vec::new(),
            origin: origin.into(),
            origin_ca: None,
            origin_protocol: OriginProtocol::default(),
            retries: retries(),
            offline: false,
            host: None,
            forward: Forward::default(),
            compress: Vec::new(),
            honour: Honour::default(),
            default_ttl: None,
            status_ttl: StatusTtl::new(),
            stale_while_revalidate: None,
            stale_if_error: None,
            hit_for_miss: hit_for_miss(),
            ttl_min: None,
            ttl_max: None,
            write_policy: WritePolicy::default(),
            memory: None,
            policy: Policies::default(),
        }
    }
}

words! {
    /// Which request fields an origin sees on a fill that may be stored.
    pub enum Forward ("a way to forward") {
        /// Every end-to-end field, unchanged.
        #[default]
        All = "all",
        /// Only the fields that the keying policy has declared, and those HTTP needs.
        Declared = "declared",
    }
}

words! {
    /// A content coding that can be applied on the fly (RFC 9110 8.4.1).
    pub enum Coding ("a content coding") {
        /// RFC 7932.
        #[default]
        Brotli = "br",
        /// RFC 1952.
        Gzip = "gzip",
    }
}

words! {
    /// Which demands of requests are met at the origin's expense: `no-cache`, `max-age`, `min-fresh`
    /// and `Pragma` where a stored response could answer (RFC 9111 5.2.1, 5.4). Every other
    /// directive of a request is followed either way.
    pub enum Honour ("a way to honour requests") {
        /// One a second for each stored response; the others join it or get the stored response.
        #[default]
        Safe = "safe",
        /// Each one.
        All = "all",
    }
}

words! {
    /// Whose failure to write marks a store as failed. A client's answer never depends on it.
    pub enum WritePolicy ("a write policy") {
        /// Nobody's.
        Ignore = "ignore",
        /// The first tier's.
        #[default]
        L0 = "l0",
        /// Any tier's.
        All = "all",
    }
}
