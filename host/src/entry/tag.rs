//! Tags: what entries are purged by.
//!
//! A tag by name comes from the origin or from a policy. The others every entry carries for what
//! its effective request URI is below, so that a purge by URL, prefix or host is a purge by tag:
//! indexed, and the same whatever key a policy gave the entry.
//!
//! ```text
//!   http://example.com:81/a/b/c?d
//!     URI        http://example.com:81/a/b/c?d
//!     host       example.com, example.com:81
//!     directory  example.com:81/a/, example.com:81/a/b/
//!     path       example.com:81/a/b/c        (of a URI with a query only)
//! ```

use std::collections::HashSet;

use super::{KeyHasher, KeyView, SiteId};

/// Directories of one URI that are tags, and segments that a prefix may have, at most. Each costs
/// an entry about as much memory as a field.
pub const DIRECTORIES_MAX: usize = 16;

/// Set in the tags that come with a response. No table of tags looks at this bit alone.
const OF_RESPONSE: u64 = 1 << 40;

/// Groups entries that are purged together. Hashed together with its site, so two sites never
/// share a tag. A collision of hashes purges an entry too many, which costs a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u64);

impl Tag {
    /// Whether it comes with a response: given by name, for its groups, or for its variant. The
    /// others are known from the request.
    pub const fn is_of_response(self) -> bool {
        self.0 & OF_RESPONSE != 0
    }
}

/// What a tag stands for. Two kinds never give the same tag.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Name,
    Uri,
    Host,
    Directory,
    Path,
    Group,
    Key,
}

/// A tag in the making.
#[derive(Clone)]
struct Hashing {
    hasher: blake3::Hasher,
    of_response: bool,
}

impl Hashing {
    fn with(mut self, text: &[u8]) -> Self {
        self.hasher.update(text);
        self
    }

    fn tag(&self) -> Tag {
        let hash = self.hasher.finalize();
        let (first, _) = hash
            .as_bytes()
            .split_first_chunk()
            .unwrap_or((&[0; 8], &[]));
        let hash = u64::from_le_bytes(*first);
        Tag(if self.of_response {
            hash | OF_RESPONSE
        } else {
            hash & !OF_RESPONSE
        })
    }
}

impl KeyHasher {
    /// The tag `name` of `site`, as origins and policies give it.
    pub fn tag(&self, site: SiteId, name: &[u8]) -> Tag {
        self.start(site, Kind::Name).with(name).tag()
    }

    /// The tag of a request URI of `site`.
    pub fn uri_tag(&self, site: SiteId, uri: &[u8]) -> Tag {
        self.start(site, Kind::Uri).with(uri).tag()
    }

    /// The tag of `host` of `site`: a name, which stands for all of its ports, or a name and a port.
    pub fn host_tag(&self, site: SiteId, host: &str) -> Tag {
        self.start(site, Kind::Host).with(host.as_bytes()).tag()
    }

    /// The tag of a cache group of an origin (RFC 9875 2.1), `scheme://authority`.
    pub fn group_tag(&self, site: SiteId, origin: &str, group: &[u8]) -> Tag {
        let hashing = self.start(site, Kind::Group).with(origin.as_bytes());
        // No origin holds a space, so no two pairs give the same bytes.
        hashing.with(b" ").with(group).tag()
    }

    /// The tag of everything that is stored under `primary`, in all its variants.
    pub fn key_tag(&self, site: SiteId, primary: KeyView<'_>) -> Tag {
        self.start(site, Kind::Key).with(primary.bytes).tag()
    }

    /// Adds the tags of what `target` of `authority` is below: host, directories, path.
    pub fn place_tags(&self, site: SiteId, authority: &str, target: &str, into: &mut Vec<Tag>) {
        let host = host_of(authority);
        into.push(self.host_tag(site, host));
        if host != authority {
            into.push(self.host_tag(site, authority));
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        into.extend(self.directory_tags(site, authority, path));
        if query.is_some() {
            into.push(self.path_tag(site, authority, path));
        }
    }

    /// The tags by which everything at or below `path` of `authority` is found; none if that is
    /// deeper than [`DIRECTORIES_MAX`].
    ///
    /// Whole segments count, as in Cloudflare's prefixes: `/a` stands for `/a`, `/a?x` and `/a/b`,
    /// and not for `/ab`; `/a/` stands for what is below it. No path stands for the host.
    pub fn prefix_tags(&self, site: SiteId, authority: &str, path: &str) -> Option<Vec<Tag>> {
        if path.is_empty() || path == "/" {
            return Some(vec![self.host_tag(site, authority)]);
        }
        let slash = if path.ends_with('/') { "" } else { "/" };
        let directory = format!("{path}{slash}");
        let depth = directory.matches('/').count() - 1;
        let mut tags: Vec<Tag> = self.directory_tags(site, authority, &directory).collect();
        if depth > DIRECTORIES_MAX {
            return None;
        }
        tags.drain(..depth - 1);
        if !path.ends_with('/') {
            tags.push(self.path_tag(site, authority, path));
            for scheme in ["http", "https"] {
                let uri = format!("{scheme}://{authority}{path}");
                tags.push(self.uri_tag(site, uri.as_bytes()));
            }
        }
        Some(tags)
    }

    fn path_tag(&self, site: SiteId, authority: &str, path: &str) -> Tag {
        let hashing = self.start(site, Kind::Path).with(authority.as_bytes());
        hashing.with(path.as_bytes()).tag()
    }

    /// Of each directory below the root that `path` is in, the outermost first.
    fn directory_tags(
        &self,
        site: SiteId,
        authority: &str,
        path: &str,
    ) -> impl Iterator<Item = Tag> {
        let root = self
            .start(site, Kind::Directory)
            .with(authority.as_bytes())
            .with(b"/");
        let segments = path.split_inclusive('/').skip(1);
        let directories = segments.take_while(|segment| segment.ends_with('/'));
        directories
            .take(DIRECTORIES_MAX)
            .scan(root, |above, segment| {
                *above = above.clone().with(segment.as_bytes());
                Some(above.tag())
            })
    }

    fn start(&self, site: SiteId, kind: Kind) -> Hashing {
        let (kind, of_response) = match kind {
            Kind::Name => (b't', true),
            Kind::Uri => (b'u', false),
            Kind::Host => (b'h', false),
            Kind::Directory => (b'd', false),
            Kind::Path => (b'p', false),
            Kind::Group => (b'g', true),
            Kind::Key => (b'k', true),
        };
        let mut hasher = self.tags.clone();
        hasher.update(&site.0.to_le_bytes()).update(&[kind]);
        Hashing {
            hasher,
            of_response,
        }
    }
}

/// The host of a normalised authority, without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    }
}

/// Each tag once, in the order in which they come first.
pub(super) fn distinct(tags: Vec<Tag>) -> Box<[Tag]> {
    const FEW: usize = 24;
    if tags.len() <= FEW {
        let mut kept: Vec<Tag> = Vec::with_capacity(tags.len());
        for tag in tags {
            if !kept.contains(&tag) {
                kept.push(tag);
            }
        }
        return kept.into();
    }
    let mut seen = HashSet::with_capacity(tags.len());
    let once = tags.into_iter().filter(|tag| seen.insert(*tag));
    once.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SITE: SiteId = SiteId(3);

    /// The tags of a URL, as an entry of it carries them.
    fn carried(hasher: &KeyHasher, scheme: &str, authority: &str, target: &str) -> Vec<Tag> {
        let uri = format!("{scheme}://{authority}{target}");
        let mut tags = vec![hasher.uri_tag(SITE, uri.as_bytes())];
        hasher.place_tags(SITE, authority, target, &mut tags);
        tags
    }

    #[test]
    fn a_prefix_stands_for_whole_segments() {
        let hasher = KeyHasher::default();
        let check = |prefix: &str, covered: &[&str], spared: &[&str]| {
            let tags = hasher.prefix_tags(SITE, "a.example", prefix).unwrap();
            for (targets, expected) in [(covered, true), (spared, false)] {
                for target in targets {
                    let carried = carried(&hasher, "http", "a.example", target);
                    let found = carried.iter().any(|tag| tags.contains(tag));
                    assert_eq!(found, expected, "{prefix} {target}");
                }
            }
        };
        let below = ["/a/", "/a/b", "/a/b?q", "/a/b/c/d", "/a//"];
        let beside = ["/ab", "/ab/c", "/", "/b/a/c", "/?/a/b", "/A/b"];
        check("/a/", &below, &beside);
        check("/a/", &[], &["/a", "/a?q=/a/b"]);
        check("/a", &below, &beside);
        check("/a", &["/a", "/a?", "/a?q"], &["/a;b", "/a%2Fb"]);
        check("/a/b.css", &["/a/b.css", "/a/b.css?v=1"], &["/a/b.cssx"]);
        check("", &["/", "/a", "/a/b"], &[]);
        check("/", &["/", "/a", "/a/b"], &[]);
        check("//", &["//", "//a"], &["/", "/a"]);
    }

    #[test]
    fn hosts_stand_for_their_ports_and_not_for_each_other() {
        let hasher = KeyHasher::default();
        let check = |host: &str, authority: &str, expected| {
            let carried = carried(&hasher, "https", authority, "/x");
            let found = carried.contains(&hasher.host_tag(SITE, host));
            assert_eq!(found, expected, "{host} {authority}");
        };
        check("a.example", "a.example", true);
        check("a.example", "a.example:81", true);
        check("a.example:81", "a.example:81", true);
        check("a.example:81", "a.example", false);
        check("a.example", "b.a.example", false);
        check("[::1]", "[::1]", true);
        check("[::1]", "[::1]:81", true);
        let other = hasher.host_tag(SiteId(4), "a.example");
        assert!(!carried(&hasher, "https", "a.example", "/").contains(&other));
    }

    #[test]
    fn kinds_and_sites_never_meet() {
        let hasher = KeyHasher::default();
        let text = "a.example/";
        let key = hasher.key(text.as_bytes());
        let mut tags = vec![
            hasher.tag(SITE, text.as_bytes()),
            hasher.tag(SiteId(4), text.as_bytes()),
            hasher.key_tag(SITE, key),
            hasher.group_tag(SITE, "a.example/", b""),
            hasher.group_tag(SITE, "", b"a.example/"),
            hasher.uri_tag(SITE, text.as_bytes()),
            hasher.host_tag(SITE, text),
            hasher.path_tag(SITE, "a.example", "/"),
        ];
        tags.extend(hasher.directory_tags(SITE, "", text));
        let (with_response, with_request) = tags.split_at(5);
        assert!(with_response.iter().all(|tag| tag.is_of_response()));
        assert!(!with_request.iter().any(|tag| tag.is_of_response()));
        let count = tags.len();
        assert_eq!(distinct(tags).len(), count);
    }

    #[test]
    fn depth_is_bounded_and_a_deeper_prefix_is_told() {
        let hasher = KeyHasher::default();
        let deepest = "/a".repeat(DIRECTORIES_MAX);
        let tags = hasher.prefix_tags(SITE, "h", &deepest).unwrap();
        let entry = carried(
            &hasher,
            "http",
            "h",
            &format!("{deepest}/{}", "b/".repeat(90)),
        );
        assert!(entry.len() <= DIRECTORIES_MAX + 3, "{}", entry.len());
        assert!(entry.iter().any(|tag| tags.contains(tag)));
        assert_eq!(hasher.prefix_tags(SITE, "h", &format!("{deepest}/b")), None);
        assert!(
            hasher
                .prefix_tags(SITE, "h", &format!("{deepest}/"))
                .is_some()
        );
    }

    #[test]
    fn a_tag_is_kept_once() {
        let tags = |range: std::ops::Range<u64>| range.map(Tag).collect::<Vec<_>>();
        for most in [3, 100] {
            let twice = [tags(0..most), tags(0..most)].concat();
            assert_eq!(*distinct(twice), tags(0..most));
        }
    }

    proptest! {
        /// The rule in words, against the tags.
        #[test]
        fn prefixes_agree_with_a_comparison_of_segments(
            prefix in "(/[ab]{0,1}){0,4}", target in "(/[ab]{0,1}){1,5}(\\?[ab/]{0,2})?",
        ) {
            let hasher = KeyHasher::default();
            let tags = hasher.prefix_tags(SITE, "h", &prefix).unwrap();
            let carried = carried(&hasher, "https", "h", &target);
            let path = target.split('?').next().unwrap();
            let expected = match prefix.strip_suffix('/') {
                None => path == prefix || prefix.is_empty() || path.starts_with(&format!("{prefix}/")),
                Some(_) => path.starts_with(&prefix),
            };
            prop_assert_eq!(carried.iter().any(|tag| tags.contains(tag)), expected);
        }
    }
}
