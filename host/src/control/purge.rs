//! Purges: what an operator asks to go, read and checked whole before any of it goes.

mod named;

use std::sync::Arc;

use serde::Deserialize;

use super::Control;
use crate::cache::Effect;
use crate::cache::receipts::{Kind, Receipt};
use crate::entry::{CacheKey, Tag};
use crate::front::purging;
use crate::front::site::Site;
use crate::policy::keying::{Input, Keyer};
use crate::policy::local::Instance;
use crate::policy::refusal::{Refusal, RefusalKind};
use crate::tier::Selection;
use crate::tier::memory::Domain;
pub(super) use named::Url;
use named::{Host, Key, Prefix};

/// What is to go: everything that any part of it names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PurgeRequest {
    /// Responses to these URLs, in all their variants.
    pub urls: Vec<String>,
    /// What is stored under these keys, as `explain` prints them, in all variants.
    pub keys: Vec<String>,
    /// Responses that the origin or a policy gave these tags.
    pub tags: Vec<String>,
    /// Responses to URLs at or below these, in whole path segments: `HOST[:PORT]/PATH`.
    pub prefixes: Vec<String>,
    /// Responses to URLs of these hosts: a name for all of its ports, or a name and a port.
    pub hosts: Vec<String>,
    /// Everything.
    pub all: bool,
    /// Only of this site.
    pub site: Option<String>,
    /// Make it stale instead of removing it.
    pub soft: bool,
    /// Only count.
    pub dry_run: bool,
}

impl PurgeRequest {
    fn kinds(&self) -> Vec<Kind> {
        let asked = [
            (Kind::Url, !self.urls.is_empty()),
            (Kind::Key, !self.keys.is_empty()),
            (Kind::Tag, !self.tags.is_empty()),
            (Kind::Prefix, !self.prefixes.is_empty()),
            (Kind::Host, !self.hosts.is_empty()),
            (Kind::All, self.all),
        ];
        let asked = asked.into_iter().filter(|(_, asked)| *asked);
        asked.map(|(kind, _)| kind).collect()
    }

    fn effect(&self) -> Effect {
        match (self.dry_run, self.soft) {
            (true, _) => Effect::None,
            (false, true) => Effect::Soft,
            (false, false) => Effect::Hard,
        }
    }
}

impl Control {
    /// Purges.
    ///
    /// # Errors
    /// The request names nothing, or something that cannot be understood; nothing was purged.
    pub fn purge(&self, request: &PurgeRequest) -> Result<Receipt, Refusal> {
        let kinds = request.kinds();
        if kinds.is_empty() {
            return Err(Refusal::new(
                RefusalKind::Malformed,
                "nothing_named",
                "a purge names urls, keys, tags, prefixes, hosts or all",
                r#"send {"urls": ["http://host/path"]}, {"tags": ["name"]} or {"all": true}"#,
            ));
        }
        let table = self.edge.sites.table();
        let only = request.site.as_deref().map(|name| self.site(name));
        let only = only.transpose()?;
        let sites = match &only {
            Some(site) => std::slice::from_ref(site),
            None => table.sites(),
        };
        let selection = self.select(request, sites, only.is_some())?;
        let domains: Vec<Arc<Domain>> = match &only {
            Some(site) => vec![Arc::clone(&site.domain)],
            None => table.domains(),
        };
        let effect = request.effect();
        let cache = &self.edge.cache;
        let receipt = cache.purge_for(&kinds, &domains, selection, effect);
        receipt.map_err(|error| {
            let message = format!("purged, but not written down: {error}");
            let hint = "it is in force until this process ends; purge again once the disk is sound";
            Refusal::new(RefusalKind::Host, "not_saved", message, hint)
        })
    }

    /// The receipt `id`, if it is kept.
    pub fn receipt(&self, id: &str) -> Option<Receipt> {
        self.edge.cache.receipts.find(id)
    }

    /// All of `request` as tags and keys of `sites`, which are not all sites if `limited`.
    pub(super) fn select(
        &self,
        request: &PurgeRequest,
        sites: &[Arc<Site>],
        limited: bool,
    ) -> Result<Selection, Refusal> {
        let hasher = &self.edge.cache.hasher;
        let mut tags: Vec<Tag> = Vec::new();
        let mut keys: Vec<CacheKey> = Vec::new();
        for url in &request.urls {
            let url = Url::parse(url)?;
            let site = self.site_of(&url)?;
            if sites.iter().any(|each| each.id == site.id) {
                tags.extend(self.tags_of(&site, &url));
            }
        }
        for key in &request.keys {
            let key = Key::parse(key)?;
            for site in sites {
                let bytes = key.of(site.id);
                let view = hasher.key(&bytes);
                tags.push(hasher.key_tag(site.id, view));
                keys.push(view.to_key());
            }
        }
        for tag in &request.tags {
            if tag.is_empty() {
                return Err(Refusal::new(
                    RefusalKind::Malformed,
                    "bad_tag",
                    "a tag is empty",
                    "name the tag as the origin or the policy does",
                ));
            }
            let tag = |site: &Arc<Site>| hasher.tag(site.id, tag.as_bytes());
            tags.extend(sites.iter().map(tag));
        }
        for prefix in &request.prefixes {
            let prefix = Prefix::parse(prefix)?;
            for site in sites {
                tags.extend(prefix.tags(hasher, site.id)?);
            }
        }
        for host in &request.hosts {
            let host = Host::parse(host)?;
            let tag = |site: &Arc<Site>| hasher.host_tag(site.id, host.as_str());
            tags.extend(sites.iter().map(tag));
        }
        let mut selection = Selection::of_tags(tags);
        selection.keys = keys;
        match (request.all, limited) {
            (true, true) => selection.sites = sites.iter().map(|site| site.id).collect(),
            (all, _) => selection.all = all,
        }
        Ok(selection)
    }

    fn site_of(&self, url: &Url) -> Result<Arc<Site>, Refusal> {
        let table = self.edge.sites.table();
        let host = url.host.as_str();
        let site = table.find(host).and_then(|position| table.get(position));
        site.cloned().ok_or_else(|| {
            Refusal::new(
                RefusalKind::NotFound,
                "unknown_host",
                format!("no site answers for {host}"),
                "see the hosts of the sites in the configuration",
            )
        })
    }

    /// The URL itself, and the one that the origin is asked for in its place: under a policy that
    /// drops parts of the target, the stored response came from there.
    fn tags_of(&self, site: &Site, url: &Url) -> Vec<Tag> {
        let headers = http::HeaderMap::new();
        let input = Input {
            method: "GET",
            authority: &url.authority,
            target: &url.target,
            headers: &headers,
        };
        let activation = site.hooks.keying.current();
        let keyed = activation
            .policy
            .as_ref()
            .and_then(|_| Keyer::make(&activation).ok()?.key(input, &activation).ok());
        let asked = keyed.as_ref().and_then(purging::asked);
        let place = (url.scheme, &*url.authority);
        purging::uri_tags(&self.edge, site, place, [Some(&url.target), asked])
    }
}
