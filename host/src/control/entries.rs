//! What is stored, listed page by page: the domains of the memory tier, then each tier below it
//! that can tell what it holds.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use super::{Control, PurgeRequest, wait};
use crate::cache::chain::MEMORY;
use crate::cache::purges::Standing;
use crate::clock;
use crate::entry::{Entry, KeyHasher, Lifetime, SiteId, Tag};
use crate::front::shown::readable;
use crate::policy::refusal::{Refusal, RefusalKind};
use crate::tier::Selection;
use crate::tier::envelope::{Envelope, Kind};
use crate::tier::memory::listing::Position;
use crate::tier::slow::Cursor;

/// About how many entries a page looks at.
const PAGE: usize = 256;

/// What is to be listed: what every part of it names.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Only of this site.
    pub site: Option<String>,
    /// Only what has this tag.
    pub tag: Option<String>,
    /// Only of this tier.
    pub tier: Option<String>,
    /// Only URLs at or below `HOST[:PORT]/PATH`.
    pub prefix: Option<String>,
    /// Where the page before this one ended.
    pub cursor: Option<String>,
}

/// Where a listing goes on: the tier (memory is 0), the domain in it, and the place in that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct At {
    tier: usize,
    domain: usize,
    major: u64,
    minor: u32,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tier,
            domain,
            major,
            minor,
        } = self;
        write!(f, "{tier}.{domain}.{major}.{minor}")
    }
}

impl FromStr for At {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let parse = || {
            let mut parts = text.split('.');
            let at = Self {
                tier: parts.next()?.parse().ok()?,
                domain: parts.next()?.parse().ok()?,
                major: parts.next()?.parse().ok()?,
                minor: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(at)
        };
        parse().ok_or_else(|| {
            let message = format!("{text:?} is not a cursor");
            let hint = "send what the page before answered as next, or nothing for the first page";
            Refusal::new(RefusalKind::Malformed, "bad_cursor", message, hint)
        })
    }
}

/// What an entry must be to be listed.
struct Filter {
    site: Option<SiteId>,
    /// Each must cover it.
    selections: Vec<Selection>,
}

impl Filter {
    fn takes(&self, site: SiteId, tags: &[Tag]) -> bool {
        self.site.is_none_or(|wanted| wanted == site)
            && self
                .selections
                .iter()
                .all(|selection| selection.covers(site, tags.iter().copied()))
    }
}

impl Control {
    /// A page of what is stored, and where the next one begins. An entry that several tiers hold is
    /// listed for each.
    ///
    /// # Errors
    /// A part of the request is malformed or unknown, or a tier failed.
    pub fn entries(&self, request: &ListRequest) -> Result<Value, Refusal> {
        let filter = self.filter(request)?;
        let only = request.tier.as_deref().map(|name| self.tier_named(name));
        let only = only.transpose()?;
        let first = At {
            tier: only.unwrap_or(0),
            ..At::default()
        };
        let at = request.cursor.as_deref().map(str::parse).transpose()?;
        let at = at.unwrap_or(first);
        if only.is_some_and(|only| only != at.tier) {
            return Ok(page(&[], None));
        }
        let (entries, next) = match at.tier.checked_sub(1) {
            None => self.in_memory(at, &filter),
            Some(below) => self.below(below, at, &filter)?,
        };
        let next = next.filter(|next| only.is_none_or(|only| next.tier == only));
        Ok(page(&entries, next))
    }

    fn filter(&self, request: &ListRequest) -> Result<Filter, Refusal> {
        let table = self.edge.sites.table();
        let site = request.site.as_deref().map(|name| self.site(name));
        let site = site.transpose()?;
        let sites = site
            .as_ref()
            .map_or_else(|| table.sites(), std::slice::from_ref);
        let tagged = request.tag.iter().map(|tag| PurgeRequest {
            tags: vec![tag.clone()],
            ..PurgeRequest::default()
        });
        let below = request.prefix.iter().map(|prefix| PurgeRequest {
            prefixes: vec![prefix.clone()],
            ..PurgeRequest::default()
        });
        let selections = tagged.chain(below);
        let selections = selections.map(|named| self.select(&named, sites, site.is_some()));
        Ok(Filter {
            selections: selections.collect::<Result<_, _>>()?,
            site: site.map(|site| site.id),
        })
    }

    /// The position of the tier that is called `name`, if it can be listed.
    fn tier_named(&self, name: &str) -> Result<usize, Refusal> {
        if name == MEMORY {
            return Ok(0);
        }
        let members = self.edge.cache.lower.members();
        let position = members.iter().position(|member| member.tier.name() == name);
        let member = position.and_then(|position| members.get(position));
        let Some((position, member)) = position.zip(member) else {
            let names = members.iter().map(|member| member.tier.name());
            let names: Vec<&str> = std::iter::once(MEMORY).chain(names).collect();
            let message = format!("there is no tier {name:?}");
            let hint = format!("the tiers are {}", names.join(", "));
            let kind = RefusalKind::NotFound;
            return Err(Refusal::new(kind, "unknown_tier", message, hint));
        };
        if member.tier.list(Cursor::default(), 0).is_none() {
            let message = format!("what {name} holds cannot be listed");
            let hint = "it would take a request an entry; `larder explain URL` asks for one";
            let kind = RefusalKind::Malformed;
            return Err(Refusal::new(kind, "unlistable_tier", message, hint));
        }
        Ok(position.saturating_add(1))
    }

    fn in_memory(&self, at: At, filter: &Filter) -> (Vec<Value>, Option<At>) {
        let domains = self.edge.sites.table().domains();
        let Some(domain) = domains.get(at.domain) else {
            return (Vec::new(), self.after(at));
        };
        let from = Position {
            stripe: usize::try_from(at.major).unwrap_or(usize::MAX),
            slot: at.minor,
        };
        let (found, next) = domain.list(from, PAGE);
        let wanted = found
            .iter()
            .filter(|entry| filter.takes(entry.site, &entry.tags));
        let entries = wanted.filter_map(|entry| self.of_entry(entry)).collect();
        let next = match next {
            Some(next) => Some(At {
                major: u64::try_from(next.stripe).unwrap_or(u64::MAX),
                minor: next.slot,
                ..at
            }),
            None if at.domain + 1 < domains.len() => Some(At {
                domain: at.domain + 1,
                ..At::default()
            }),
            None => self.after(at),
        };
        (entries, next)
    }

    fn below(
        &self,
        below: usize,
        at: At,
        filter: &Filter,
    ) -> Result<(Vec<Value>, Option<At>), Refusal> {
        let cache = &self.edge.cache;
        let member = cache.lower.members().get(below);
        let listing = member.and_then(|member| member.tier.list(Cursor(at.major, at.minor), PAGE));
        let (Some(member), Some(listing)) = (member, listing) else {
            return Ok((Vec::new(), self.after(at)));
        };
        let listed = wait(listing)?.map_err(|error| {
            let message = format!("{}: {error}", member.tier.name());
            let hint = "`larder stat` shows how each tier is; list another with --tier";
            Refusal::new(RefusalKind::Busy, "tier_unavailable", message, hint)
        })?;
        let next = match listed.next {
            Some(Cursor(major, minor)) => Some(At { major, minor, ..at }),
            None => self.after(at),
        };
        let mut entries = Vec::new();
        for envelope in &listed.entries {
            if !filter.takes(envelope.site, &envelope.tags) {
                continue;
            }
            let standing = cache.flights.purges.of(&cache.hasher, envelope);
            entries.extend(self.of_envelope(member.tier.name(), envelope, standing));
        }
        Ok((entries, next))
    }

    /// The beginning of the next tier that can be listed.
    fn after(&self, at: At) -> Option<At> {
        let members = self.edge.cache.lower.members();
        let mut later = members.iter().enumerate().skip(at.tier);
        let listed =
            |member: &crate::cache::lower::Member| member.tier.list(Cursor::default(), 0).is_some();
        let next = later.find(|(_, member)| listed(member));
        next.map(|(position, _)| At {
            tier: position.saturating_add(1),
            ..At::default()
        })
    }

    /// None of what is no response.
    fn of_entry(&self, entry: &Entry) -> Option<Value> {
        let lifetime = entry.lifetime()?;
        let (bytes, status) = match (entry.response(), entry.partial()) {
            (Some(stored), _) => (stored.body.len(), Some(stored.status.as_u16())),
            (None, Some(partial)) => (partial.parts.len(), None),
            (None, None) => return None,
        };
        let key = entry.key.view().bytes;
        let shown = self.shown(MEMORY, (entry.site, key), (bytes, status), &entry.tags);
        Some(timed(shown, lifetime, false))
    }

    fn of_envelope(&self, tier: &str, envelope: &Envelope, standing: Standing) -> Option<Value> {
        let Kind::Response(head) = &envelope.kind else {
            return None;
        };
        let softened = match standing {
            Standing::Purged => return None,
            Standing::Softened(_) => true,
            Standing::Valid => false,
        };
        let status = Some(head.status.as_u16());
        let (site, bytes) = (envelope.site, envelope.length);
        let shown = self.shown(tier, (site, &envelope.key), (bytes, status), &envelope.tags);
        Some(timed(shown, &head.lifetime, softened))
    }

    fn shown(
        &self,
        tier: &str,
        (site, key): (SiteId, &[u8]),
        (bytes, status): (u64, Option<u16>),
        tags: &[Tag],
    ) -> Value {
        let hasher: &KeyHasher = &self.edge.cache.hasher;
        let key_tag = hasher.key_tag(site, hasher.key(key));
        let given = |tag: &&Tag| tag.is_of_response() && **tag != key_tag;
        let table = self.edge.sites.table();
        let site = table.sites().iter().find(|each| each.id == site);
        json!({
            "tier": tier,
            // None of one that has left the configuration.
            "site": site.map(|site| &site.name),
            "key": String::from_utf8_lossy(&readable(key)),
            "status": status,
            "bytes": bytes,
            "tags": tags.iter().filter(given).count(),
        })
    }
}

/// `shown` with its times: of one that a soft purge covers, nothing remains.
fn timed(mut shown: Value, lifetime: &Lifetime, softened: bool) -> Value {
    let now = clock::now();
    let remaining = match softened {
        true => 0,
        false => lifetime.remaining(now).as_secs(),
    };
    if let Value::Object(members) = &mut shown {
        members.insert("age_s".to_owned(), json!(lifetime.age(now).as_secs()));
        members.insert("remaining_s".to_owned(), json!(remaining));
    }
    shown
}

fn page(entries: &[Value], next: Option<At>) -> Value {
    json!({ "entries": entries, "next": next.map(|next| next.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let at = At {
            tier: 1,
            domain: 2,
            major: u64::MAX,
            minor: 9,
        };
        assert_eq!(at.to_string().parse::<At>().ok(), Some(at));
        for text in ["", "1", "1.2.3", "1.2.3.4.5", "-1.0.0.0", "a.b.c.d"] {
            assert!(text.parse::<At>().is_err(), "{text:?}");
        }
    }
}
