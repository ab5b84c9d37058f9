//! Purges: what is to go, and the receipt of what went.
//!
//! In memory a purge is in force, and counted exactly, when it returns. Receipts are kept for a
//! while so that they can be asked for again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Control;
use crate::entry::Tag;
use crate::front::authority::{Authority, Scheme};
use crate::front::site::Site;
use crate::policy::keying::{Input, Keyed, Keyer};
use crate::policy::local::Instance;
use crate::policy::refusal::{Refusal, RefusalKind};
use crate::tier::Purged;

/// Receipts kept.
const RECEIPTS: usize = 1_024;

/// What is to go.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PurgeRequest {
    /// Responses to these URLs, in all their variants.
    pub urls: Vec<String>,
    /// Everything.
    pub all: bool,
    /// Only of this site.
    pub site: Option<String>,
    /// Only count.
    pub dry_run: bool,
    /// Not in this version.
    pub keys: Vec<String>,
    /// Not in this version.
    pub tags: Vec<String>,
    /// Not in this version.
    pub prefixes: Vec<String>,
    /// Not in this version.
    pub hosts: Vec<String>,
    /// Not in this version.
    pub soft: bool,
}

/// What went.
#[derive(Clone, Debug, Serialize)]
pub struct PurgeReceipt {
    /// Names the purge.
    pub id: String,
    /// Stored entries.
    pub entries: u64,
    /// Bytes they were charged.
    pub bytes: u64,
    /// Whether the counts are final.
    pub settled: bool,
}

#[derive(Debug, Default)]
pub(super) struct Receipts {
    last: AtomicU64,
    kept: Mutex<VecDeque<PurgeReceipt>>,
}

impl Receipts {
    fn write(&self, purged: Purged) -> PurgeReceipt {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let receipt = PurgeReceipt {
            id: format!("p{id}"),
            entries: purged.entries,
            bytes: purged.bytes,
            settled: true,
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= RECEIPTS {
            kept.pop_front();
        }
        kept.push_back(receipt.clone());
        receipt
    }
}

impl Control {
    /// Purges.
    ///
    /// # Errors
    /// The request names nothing, or something that cannot be purged by.
    pub fn purge(&self, request: &PurgeRequest) -> Result<PurgeReceipt, Refusal> {
        supported(request)?;
        let site = request
            .site
            .as_deref()
            .map(|name| self.site(name))
            .transpose()?;
        let purged = if request.all {
            self.purge_everything(site.as_ref(), request.dry_run)
        } else {
            // All are understood before the first is acted on: a refused purge purges nothing.
            let found: Result<Vec<_>, _> = request
                .urls
                .iter()
                .map(|url| self.find(url, site.as_ref()))
                .collect();
            let mut purged = Purged::default();
            for (site, tags) in found?.into_iter().flatten() {
                purged += self.purge_tags(&site, &tags, request.dry_run);
            }
            purged
        };
        Ok(self.receipts.write(purged))
    }

    /// The receipt `id`, if it is kept.
    pub fn receipt(&self, id: &str) -> Option<PurgeReceipt> {
        let kept = self
            .receipts
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|receipt| receipt.id == id).cloned()
    }

    fn purge_everything(&self, site: Option<&Arc<Site>>, dry_run: bool) -> Purged {
        let cache = &self.edge.cache;
        let table = self.edge.sites.table();
        if dry_run {
            let mut counted = Purged::default();
            for each in table
                .sites()
                .iter()
                .filter(|each| site.is_none_or(|site| site.id == each.id))
            {
                each.domain.for_each(each.id, &mut |entry| {
                    counted += Purged {
                        entries: 1,
                        bytes: entry.charge(),
                    };
                });
            }
            return counted;
        }
        match site {
            Some(site) => cache.purge_site(&site.domain, site.id),
            None => cache.purge_all(table.domains().iter().map(|domain| &**domain)),
        }
    }

    /// The site of `url` and the tags to purge by; none if the site is not the `only` one.
    fn find(
        &self,
        url: &str,
        only: Option<&Arc<Site>>,
    ) -> Result<Option<(Arc<Site>, Vec<Tag>)>, Refusal> {
        let url = Url::parse(url)?;
        let table = self.edge.sites.table();
        let host = url.host.as_str();
        let Some(site) = table.find(host).and_then(|position| table.get(position)) else {
            return Err(Refusal::new(
                RefusalKind::NotFound,
                "unknown_host",
                format!("no site answers for {host}"),
                "see the hosts of the sites in the configuration",
            ));
        };
        let asked = only.is_none_or(|only| only.id == site.id);
        Ok(asked.then(|| (Arc::clone(site), self.tags_of(site, &url))))
    }

    fn purge_tags(&self, site: &Site, tags: &[Tag], dry_run: bool) -> Purged {
        if !dry_run {
            return self.edge.cache.purge_tags(&site.domain, tags);
        }
        let mut counted = Purged::default();
        for tag in tags {
            counted += site.domain.count_tag(*tag);
        }
        counted
    }

    /// The URL itself, and the one that the origin is asked for in its place: under a policy that
    /// drops parts of the target, the stored response came from there.
    fn tags_of(&self, site: &Site, url: &Url) -> Vec<Tag> {
        let cache = &self.edge.cache;
        let tag = |target: &str| cache.uri_tag(site.id, "http", &url.authority, target);
        let mut tags = vec![tag(&url.target)];
        let headers = http::HeaderMap::new();
        let input = Input {
            method: "GET",
            authority: &url.authority,
            target: &url.target,
            headers: &headers,
        };
        let activation = site.hooks.keying.current();
        let asked = activation
            .policy
            .as_ref()
            .and_then(|_| Keyer::make(&activation).ok()?.key(input, &activation).ok());
        if let Some(Keyed::Key {
            target: Some(target),
            ..
        }) = asked
        {
            tags.extend(Some(tag(&target)).filter(|asked| !tags.contains(asked)));
        }
        tags
    }
}

fn supported(request: &PurgeRequest) -> Result<(), Refusal> {
    let unsupported = [
        ("keys", !request.keys.is_empty()),
        ("tags", !request.tags.is_empty()),
        ("prefixes", !request.prefixes.is_empty()),
        ("hosts", !request.hosts.is_empty()),
        ("soft", request.soft),
    ];
    if let Some((field, _)) = unsupported.into_iter().find(|(_, asked)| *asked) {
        return Err(Refusal::new(
            RefusalKind::Malformed,
            "unsupported_purge",
            format!("this version does not purge by {field:?}; nothing was purged"),
            "purge by \"urls\", or \"all\"",
        ));
    }
    if request.urls.is_empty() != request.all {
        return Err(Refusal::new(
            RefusalKind::Malformed,
            "nothing_named",
            "a purge names either urls or all",
            r#"send {"urls": ["http://host/path"]} or {"all": true}"#,
        ));
    }
    Ok(())
}

/// A URL of this host.
#[derive(Debug)]
pub(super) struct Url {
    /// Host, and port if it is not the default.
    pub(super) authority: String,
    /// The host alone.
    pub(super) host: String,
    /// Path and query.
    pub(super) target: String,
}

impl Url {
    /// Reads `http://HOST[:PORT]/PATH[?QUERY]`.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let bad = |reason: &str| {
            Refusal::new(
                RefusalKind::Malformed,
                "bad_url",
                format!("{text:?} {reason}"),
                "write it as http://HOST[:PORT]/PATH",
            )
        };
        let uri: http::Uri = text.parse().map_err(|_| bad("is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("is not an http URL"));
        }
        let authority = uri
            .authority()
            .map(http::uri::Authority::as_str)
            .unwrap_or_default();
        let authority =
            Authority::parse(authority, Scheme::Http).map_err(|_| bad("has no valid host"))?;
        let (host, authority) = (authority.host().to_owned(), authority.as_str().to_owned());
        let target = uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .to_owned();
        Ok(Self {
            authority,
            host,
            target,
        })
    }
}
