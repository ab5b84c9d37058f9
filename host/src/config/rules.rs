//! What no single key shows: ranges, and keys that contradict each other.
//!
//! Also settles what depends on other keys: the default name of a site, hosts in lower case.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use super::address::{host_and_port, host_name};
use super::number::{ByteSize, Count, TimeSpan};
use super::origin::OriginScheme;
use super::policy::PolicyChoice;
use super::source::{Place, Problem, Sources};
use super::{Config, Limits, Record, Site, TierName, shares};

const HOST_ACCEPTED: &str = "write a DNS name, an IPv4 address or an IPv6 address in brackets";

/// Settles `config` and returns everything that is wrong with it.
pub(super) fn settle(config: &mut Config, sources: &Sources, file: Option<&Path>) -> Vec<Problem> {
    let mut rules = Rules {
        sources,
        problems: Vec::new(),
    };
    if config.sites.is_empty() {
        rules.problems.push(no_site(file));
    }
    rules.limits(&config.limits);
    rules.listeners(config);
    rules.hosts(&mut config.sites);
    rules.names(&mut config.sites);
    for (position, site) in config.sites.iter().enumerate() {
        rules.site(position, site);
    }
    rules.memory(config);
    rules.record(&config.record);
    rules.tiers(config);
    rules.problems
}

fn no_site(file: Option<&Path>) -> Problem {
    let (place, clause) = match file {
        Some(path) => (
            Place::File(path.to_owned(), 1),
            "there is none; write [[site]] with an origin, or give --origin URL",
        ),
        None => (
            Place::Default,
            "there is none; give --origin URL or --config FILE",
        ),
    };
    Problem {
        place,
        key: "site".to_owned(),
        clause: clause.to_owned(),
    }
}

struct Rules<'a> {
    sources: &'a Sources,
    problems: Vec<Problem>,
}

impl Rules<'_> {
    fn wrong(&mut self, key: impl Into<String>, clause: impl Into<String>) {
        self.problems.push(self.sources.problem(key, clause));
    }

    fn range<T: Copy + PartialOrd + std::fmt::Display>(
        &mut self,
        key: &str,
        found: T,
        from: T,
        to: T,
    ) {
        if found < from || found > to {
            let key = format!("limits.{key}");
            self.wrong(
                key,
                format!("\"{found}\" is out of range; write {from} to {to}"),
            );
        }
    }

    fn record(&mut self, record: &Record) {
        let least = ByteSize::mib(1);
        if record.size < least {
            let clause = format!("\"{}\" is too little; write {least} or more", record.size);
            self.wrong("record.size", clause);
        }
    }

    fn tiers(&mut self, config: &Config) {
        let (shortest, longest) = (TimeSpan::millis(1), TimeSpan::seconds(60));
        for (key, timeout) in [
            ("disk.timeout", config.disk.timeout),
            ("object_store.timeout", config.object_store.timeout),
        ] {
            if timeout < shortest || timeout > longest {
                let clause =
                    format!("\"{timeout}\" is out of range; write {shortest} to {longest}");
                self.wrong(key, clause);
            }
        }
        let sized = config
            .disk
            .capacity
            .is_some_and(|size| size > ByteSize::new(0));
        if sized && config.disk_dir().is_none() {
            let clause = "the disk tier has no directory; set data_dir or disk.dir";
            self.wrong("disk.capacity", clause);
        }
        if config.disk.dir.is_some() && config.data_dir.is_none() {
            let clause =
                "a disk tier needs a data_dir for its purges, which must outlast the process";
            self.wrong("disk.dir", clause);
        }
        if config
            .tiers
            .first()
            .is_some_and(|first| *first != TierName::Memory)
        {
            self.wrong("tiers", "memory answers without a wait, so it comes first");
        }
        for (position, tier) in config.tiers.iter().enumerate() {
            if config
                .tiers
                .iter()
                .take(position)
                .any(|other| other == tier)
            {
                self.wrong("tiers", format!("\"{tier}\" is there twice"));
            }
            let missing = match tier {
                TierName::Memory => None,
                TierName::Disk => config.disk_dir().is_none().then_some("disk.capacity"),
                TierName::ObjectStore => config
                    .object_store
                    .url
                    .is_none()
                    .then_some("object_store.url"),
            };
            if let Some(missing) = missing {
                let clause = format!("\"{tier}\" is not configured; set {missing}");
                self.wrong("tiers", clause);
            }
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let size = |bytes| ByteSize::new(bytes);
        self.range(
            "request_head",
            limits.request_head,
            ByteSize::kib(8),
            ByteSize::mib(1),
        );
        // A target longer than a head could never arrive.
        self.range(
            "target",
            limits.target,
            size(64),
            limits.request_head.max(size(64)),
        );
        self.range(
            "request_fields",
            limits.request_fields,
            Count::new(1),
            Count::new(1000),
        );
        if let Some(connections) = limits.connections {
            self.range(
                "connections",
                connections,
                Count::new(1),
                Count::new(u32::MAX),
            );
        }
        if let Some(waiters) = limits.waiters {
            self.range("waiters", waiters, Count::new(1), Count::new(u32::MAX));
        }
        self.range(
            "fetches",
            limits.fetches,
            Count::new(1),
            Count::new(u32::MAX),
        );
        let (shortest, day) = (TimeSpan::millis(1), TimeSpan::seconds(86_400));
        self.range("connect", limits.connect, shortest, day);
        self.range("first_byte", limits.first_byte, shortest, day);
        self.range("origin_idle", limits.origin_idle, shortest, day);
        self.range("head", limits.head, shortest, day);
        self.range("client_idle", limits.client_idle, shortest, day);
        self.range("drain", limits.drain, TimeSpan::millis(0), day);
        self.range(
            "policy_upload",
            limits.policy_upload,
            ByteSize::kib(1),
            ByteSize::mib(64),
        );
        self.range(
            "policy_deadline",
            limits.policy_deadline,
            shortest,
            TimeSpan::seconds(1),
        );
        self.range(
            "policy_memory",
            limits.policy_memory,
            ByteSize::kib(128),
            ByteSize::mib(64),
        );
    }

    fn listeners(&mut self, config: &Config) {
        let admin = config.admin.listen;
        if !admin.is_loopback() && config.admin.token_file.is_none() {
            self.wrong(
                "admin.listen",
                format!(
                    "\"{admin}\" can be reached from other machines; \
                     set admin.token_file, or listen on 127.0.0.1"
                ),
            );
        }
        self.tls(config);
        if collide(config.listen.http.0, admin.0) {
            self.wrong(
                "admin.listen",
                format!("\"{admin}\" is taken by listen.http; write another port"),
            );
        }
    }

    fn tls(&mut self, config: &Config) {
        const KEY: &str = "listen.tls.https";
        let tls = &config.listen.tls;
        let Some(https) = tls.https else {
            if !tls.certificates.is_empty() {
                self.wrong(
                    "listen.tls.certificate",
                    "there is no listen.tls.https; write the address, such as \"0.0.0.0:443\"",
                );
            }
            return;
        };
        if tls.certificates.is_empty() {
            let clause = format!(
                "\"{https}\" needs a certificate; write [[listen.tls.certificate]] with chain \
                 and key"
            );
            self.wrong(KEY, clause);
        }
        for (taken, by) in [
            (config.listen.http, "listen.http"),
            (config.admin.listen, "admin.listen"),
        ] {
            if collide(taken.0, https.0) {
                let clause = format!("\"{https}\" is taken by {by}; write another port");
                self.wrong(KEY, clause);
            }
        }
    }

    /// Puts hosts in lower case; no two sites answer for one authority.
    fn hosts(&mut self, sites: &mut [Site]) {
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        let mut catch_all: Option<String> = None;
        for (position, site) in sites.iter_mut().enumerate() {
            for (number, host) in site.hosts.iter_mut().enumerate() {
                let key = format!("site[{position}].hosts[{number}]");
                let Some(name) = host_name(host) else {
                    self.wrong(key, format!("\"{host}\" is not a host; {HOST_ACCEPTED}"));
                    continue;
                };
                if let Some(first) = taken.insert(name.clone(), key.clone()) {
                    let first = self.sources.nearest(&first);
                    let clause = format!("\"{name}\" is given twice, first at {first}; remove one");
                    self.wrong(key, clause);
                }
                *host = name;
            }
            if site.hosts.is_empty() {
                let key = format!("site[{position}].hosts");
                if let Some(first) = &catch_all {
                    let first = self.sources.nearest(first);
                    let clause = format!(
                        "a site without hosts takes every other authority, and the one at {first} \
                         does already; give this one hosts"
                    );
                    self.wrong(key, clause);
                } else {
                    catch_all = Some(key);
                }
            }
        }
    }

    /// Gives unnamed sites their default; no two sites share a name.
    fn names(&mut self, sites: &mut [Site]) {
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        for (position, site) in sites.iter_mut().enumerate() {
            let key = format!("site[{position}].name");
            let written = self.sources.place(&key) != Place::Default;
            if site.name.is_empty() && !written {
                site.name = site
                    .hosts
                    .first()
                    .map_or("default", String::as_str)
                    .to_owned();
            } else if !is_site_name(&site.name) {
                let clause = format!(
                    "\"{}\" is not a site name; write 1 to 64 letters, digits, \".\", \"_\" and \
                     \"-\", a letter or digit first",
                    site.name
                );
                self.wrong(key.clone(), clause);
                continue;
            }
            if let Some(first) = taken.insert(site.name.clone(), key.clone()) {
                let first = self.sources.nearest(&first);
                let clause = format!(
                    "\"{}\" is the name of the site at {first} already; write another name",
                    site.name
                );
                self.wrong(key, clause);
            }
        }
    }

    fn site(&mut self, position: usize, site: &Site) {
        let key = |name: &str| format!("site[{position}].{name}");
        if let Some(host) = &site.host
            && host_and_port(host).is_none()
        {
            let clause =
                format!("\"{host}\" is not a host; {HOST_ACCEPTED}, and a port if one is needed");
            self.wrong(key("host"), clause);
        }
        if site.origin_ca.is_some() && site.origin.scheme() == OriginScheme::Http {
            let clause = format!(
                "\"{}\" is asked in clear text, without certificates; remove this, or write https",
                site.origin
            );
            self.wrong(key("origin_ca"), clause);
        }
        if site.retries > Count::new(10) {
            let clause = format!("\"{}\" is out of range; write 0 to 10", site.retries);
            self.wrong(key("retries"), clause);
        }
        if let (Some(min), Some(max)) = (site.ttl_min, site.ttl_max)
            && min > max
        {
            let clause = format!("\"{min}\" is more than ttl_max, which is \"{max}\"");
            self.wrong(key("ttl_min"), clause);
        }
        let longest = TimeSpan::seconds(86_400);
        if site.hit_for_miss > longest {
            let clause = format!(
                "\"{}\" is out of range; write 0s to {longest}",
                site.hit_for_miss
            );
            self.wrong(key("hit_for_miss"), clause);
        }
        let policy = &site.policy;
        self.native(key("policy.keying"), &policy.keying, "native:default");
        self.native(key("policy.freshness"), &policy.freshness, "native:rfc9111");
        self.native(key("policy.eviction"), &policy.eviction, "native:lru");
    }

    /// Each hook has one native rule, and it takes neither version nor parameters.
    fn native(&mut self, key: String, choice: &PolicyChoice, only: &str) {
        if !choice.is_native() {
            return;
        }
        if choice.name != only {
            let clause = format!(
                "\"{}\" is not a native rule of this hook; write {only} or the name of a policy",
                choice.name
            );
            self.wrong(key, clause);
        } else if choice.version.is_some() || !choice.params.is_empty() {
            self.wrong(
                key,
                format!("{only} takes no version and no params; remove them"),
            );
        }
    }

    /// Every domain gets a share, and the shares fit.
    fn memory(&mut self, config: &Config) {
        let capacity = config.memory.capacity;
        let asked = config.sites.iter().filter_map(|site| site.memory);
        let sum = asked.fold(0_u64, |sum, size| sum.saturating_add(size.bytes()));
        if sum > capacity.bytes() {
            let last = config
                .sites
                .iter()
                .rposition(|site| site.memory.is_some())
                .unwrap_or(0);
            let clause = format!(
                "the sites ask for {} together, which is more than memory.capacity, {capacity}",
                ByteSize::new(sum)
            );
            self.wrong(format!("site[{last}].memory"), clause);
            return;
        }
        let sites: Vec<_> = config
            .sites
            .iter()
            .map(|s| (&s.policy.eviction, s.memory))
            .collect();
        for share in shares(capacity, &sites) {
            let unasked = share
                .sites
                .iter()
                .all(|at| sites.get(*at).is_some_and(|s| s.1.is_none()));
            if share.capacity.bytes() == 0 && capacity.bytes() > 0 && unasked {
                let first = share.sites.first().copied().unwrap_or(0);
                let clause = format!(
                    "the other sites ask for all of memory.capacity, {capacity}, and nothing is \
                     left for this one; write a size here and smaller ones there"
                );
                self.wrong(format!("site[{first}].memory"), clause);
            }
        }
    }
}

/// Whether two sockets cannot be listened on at once.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_ip
}

/// Names stand in paths, in labels and on command lines.
fn is_site_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
