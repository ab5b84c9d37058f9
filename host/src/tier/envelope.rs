//! What a tier outside of memory keeps of an entry beside its content: the one form in which disk
//! and object store write it.
//!
//! The form is a version byte and a postcard message. It names nothing that only this process
//! knows: times are wall-clock times, sites and tags are numbers that every node derives from the
//! same names. A form of another version, or one that does not parse to its last byte, is a miss.
//!
//! Whoever stores a form guards it with a checksum of its own; decoding checks structure only.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::clock::{self, Moment};
use crate::entry::{
    Content, Entry, KeyHasher, Lifetime, Nominations, Reuse, SiteId, StoredBody, StoredResponse,
    Tag,
};

/// The version of the form that is written, and the only one that is read.
const VERSION: u8 = 1;

/// Bytes of a form. A response whose fields need more is kept in memory only.
pub const FORM_MAX: usize = 1 << 20;

/// How far the wall clock may have been set back since an entry was stored, before what it says of
/// ages is not believed any more.
const SET_BACK_MAX: Duration = Duration::from_secs(2);

/// An entry without its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The whole cache key.
    pub key: Box<[u8]>,
    /// Whose it is.
    pub site: SiteId,
    /// What it is purged by.
    pub tags: Box<[Tag]>,
    /// What the content is.
    pub kind: Kind,
    /// When the fetch began that brought it: purges from then on cover it.
    pub born: Born,
    /// Bytes of content.
    pub length: u64,
    /// The hash of the content (BLAKE3).
    pub digest: [u8; 32],
}

/// The origin in time of what is stored, which decides whether a purge covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Born {
    /// The node that fetched it, a random number.
    pub node: u64,
    /// The number of that node's latest purge when the fetch began.
    pub purge: u64,
    /// When the fetch began, milliseconds since the Unix epoch.
    pub at: u64,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A response.
    Response(Head),
    /// Nominated request fields, without content.
    Nominations(Nominations),
}

/// The head of a stored response.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Final status.
    pub status: StatusCode,
    /// End-to-end fields, as in [`StoredResponse`].
    pub headers: HeaderMap,
    /// Fields that the origin addressed to this cache.
    pub targeted: Option<Box<HeaderMap>>,
    /// How long it may be used.
    pub lifetime: Lifetime,
    /// Which policy decided the lifetime.
    pub decided_by: Arc<str>,
}

/// Why a form is not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Another version wrote it.
    #[error("the form has version {0}, this is version {VERSION}")]
    Version(u8),
    /// It is no form, or was damaged.
    #[error("the form is malformed")]
    Malformed,
    /// It was stored later than now, so the clock says nothing of its age.
    #[error("the form is from the future")]
    Future,
}

impl Envelope {
    /// The envelope of `entry`, which was born so. None for an entry that is kept in memory only:
    /// parts of a response.
    pub fn of(entry: &Entry, born: Born, digest: [u8; 32]) -> Option<Self> {
        let (kind, length) = match &entry.content {
            Content::Response(stored) => {
                let head = Head {
                    status: stored.status,
                    headers: stored.headers.clone(),
                    targeted: entry.targeted().cloned().map(Box::new),
                    lifetime: stored.lifetime,
                    decided_by: Arc::clone(&stored.decided_by),
                };
                (Kind::Response(head), stored.body.len())
            }
            Content::Nominations(nominations) => (Kind::Nominations(nominations.clone()), 0),
            Content::Partial(_) => return None,
        };
        Some(Self {
            key: entry.key.view().bytes.into(),
            site: entry.site,
            tags: entry.tags.clone(),
            kind,
            born,
            length,
            digest,
        })
    }

    /// The entry again, with `body` for its content.
    pub fn into_entry(self, hasher: &KeyHasher, body: StoredBody) -> Entry {
        let key = hasher.key(&self.key).to_key();
        let (content, targeted) = match self.kind {
            Kind::Response(head) => (
                Content::Response(StoredResponse {
                    status: head.status,
                    headers: head.headers,
                    body,
                    lifetime: head.lifetime,
                    decided_by: head.decided_by,
                }),
                head.targeted,
            ),
            Kind::Nominations(nominations) => (Content::Nominations(nominations), None),
        };
        let entry = Entry::new(key, self.site, self.tags.into_vec(), content);
        match targeted {
            Some(fields) => entry.with_targeted(&fields),
            None => entry,
        }
    }

    /// It may not be the latest response: it is validated before it is used.
    pub fn doubt(&mut self) {
        if let Kind::Response(head) = &mut self.kind {
            head.lifetime.reuse = Reuse::AfterValidation;
        }
    }

    /// When it stops being of any use, milliseconds since the Unix epoch: past its lifetime and
    /// every window of staleness, with nothing to validate it by. None: not by itself.
    pub fn expires(&self) -> Option<u64> {
        let Kind::Response(head) = &self.kind else {
            return None;
        };
        let validators = [http::header::ETAG, http::header::LAST_MODIFIED];
        if validators
            .iter()
            .any(|name| head.headers.contains_key(name))
        {
            return None;
        }
        let life = &head.lifetime;
        let windows = life.stale_while_revalidate.max(life.stale_if_error);
        let left = life.remaining(clock::now()).saturating_add(windows);
        let left = u64::try_from(left.as_millis()).ok()?;
        Some(clock::unix_millis(clock::wall()).saturating_add(left))
    }

    /// The form.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let (kind, head, sets) = match &self.kind {
            Kind::Response(head) => (0, Some(HeadForm::of(head)), Vec::new()),
            Kind::Nominations(nominations) => (
                1,
                None,
                nominations.sets.iter().map(|set| names(set)).collect(),
            ),
        };
        let form = Form {
            kind,
            key: &self.key,
            site: self.site.0,
            tags: self.tags.iter().map(|tag| tag.0).collect(),
            born: self.born,
            length: self.length,
            digest: self.digest,
            head,
            sets,
        };
        let bytes = postcard::to_extend(&form, vec![VERSION]).ok()?;
        (bytes.len() <= FORM_MAX).then_some(bytes)
    }

    /// The envelope in `bytes`.
    ///
    /// # Errors
    /// They hold no envelope, one of another version, or one from the future.
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let (version, bytes) = bytes.split_first().ok_or(Undecodable::Malformed)?;
        if *version != VERSION {
            return Err(Undecodable::Version(*version));
        }
        let (form, rest) =
            postcard::take_from_bytes::<Form<'_>>(bytes).map_err(|_| Undecodable::Malformed)?;
        let kind = match (form.kind, form.head) {
            (0, Some(head)) => Kind::Response(head.into_head()?),
            (1, None) => {
                let name = |name: &str| HeaderName::try_from(name);
                let set = |set: Vec<&str>| set.into_iter().map(name).collect::<Result<_, _>>();
                let sets = form.sets.into_iter().map(set).collect::<Result<_, _>>();
                let sets = sets.map_err(|_| Undecodable::Malformed)?;
                Kind::Nominations(Nominations { sets })
            }
            _ => return Err(Undecodable::Malformed),
        };
        if !rest.is_empty() {
            return Err(Undecodable::Malformed);
        }
        Ok(Self {
            key: form.key.into(),
            site: SiteId(form.site),
            tags: form.tags.into_iter().map(Tag).collect(),
            kind,
            born: form.born,
            length: form.length,
            digest: form.digest,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Form<'a> {
    kind: u8,
    key: &'a [u8],
    site: u64,
    tags: Vec<u64>,
    born: Born,
    length: u64,
    digest: [u8; 32],
    #[serde(borrow)]
    head: Option<HeadForm<'a>>,
    #[serde(borrow)]
    sets: Vec<Vec<&'a str>>,
}

#[derive(Serialize, Deserialize)]
struct HeadForm<'a> {
    status: u16,
    #[serde(borrow)]
    headers: Fields<'a>,
    #[serde(borrow)]
    targeted: Option<Fields<'a>>,
    /// Milliseconds since the Unix epoch.
    stored_at: u64,
    /// Milliseconds, as all that follow.
    initial_age: u64,
    fresh_for: u64,
    stale_while_revalidate: u64,
    stale_if_error: u64,
    reuse: u8,
    decided_by: &'a str,
}

/// Names and values, in order.
type Fields<'a> = Vec<(&'a str, &'a [u8])>;

impl<'a> HeadForm<'a> {
    fn of(head: &'a Head) -> Self {
        let life = &head.lifetime;
        Self {
            status: head.status.as_u16(),
            headers: fields(&head.headers),
            targeted: head.targeted.as_deref().map(fields),
            stored_at: wall_of(life.stored_at),
            initial_age: millis(life.initial_age),
            fresh_for: millis(life.fresh_for),
            stale_while_revalidate: millis(life.stale_while_revalidate),
            stale_if_error: millis(life.stale_if_error),
            reuse: match life.reuse {
                Reuse::Normal => 0,
                Reuse::FreshOnly => 1,
                Reuse::AfterValidation => 2,
            },
            decided_by: &head.decided_by,
        }
    }

    fn into_head(self) -> Result<Head, Undecodable> {
        let reuse = match self.reuse {
            0 => Reuse::Normal,
            1 => Reuse::FreshOnly,
            2 => Reuse::AfterValidation,
            _ => return Err(Undecodable::Malformed),
        };
        let stored = UNIX_EPOCH + Duration::from_millis(self.stored_at.min(1 << 53));
        let (stored_at, passed) = moment_of(stored).ok_or(Undecodable::Future)?;
        let malformed = Undecodable::Malformed;
        let head = Head {
            status: StatusCode::from_u16(self.status).map_err(|_| malformed)?,
            headers: map(self.headers).ok_or(malformed)?,
            targeted: match self.targeted {
                Some(fields) => Some(Box::new(map(fields).ok_or(malformed)?)),
                None => None,
            },
            lifetime: Lifetime {
                stored_at,
                // What passed before this process began is part of the age on arrival.
                initial_age: Duration::from_millis(self.initial_age).saturating_add(passed),
                fresh_for: Duration::from_millis(self.fresh_for),
                stale_while_revalidate: Duration::from_millis(self.stale_while_revalidate),
                stale_if_error: Duration::from_millis(self.stale_if_error),
                reuse,
            },
            decided_by: self.decided_by.into(),
        };
        Ok(head)
    }
}

/// A moment on the wall clock, milliseconds since the Unix epoch.
fn wall_of(moment: Moment) -> u64 {
    let ago = millis(clock::now().since(moment));
    clock::unix_millis(clock::wall()).saturating_sub(ago)
}

/// A time on the wall clock as a moment of this process, and how long before its start it was.
/// None if it is still to come.
fn moment_of(time: SystemTime) -> Option<(Moment, Duration)> {
    let ago = match clock::wall().duration_since(time) {
        Ok(ago) => ago,
        Err(ahead) if ahead.duration() <= SET_BACK_MAX => Duration::ZERO,
        Err(_) => return None,
    };
    let now = Duration::from_millis(clock::now().as_millis());
    let moment = now.saturating_sub(ago);
    let before = ago.saturating_sub(now);
    Some((Moment::from_millis(millis(moment)), before))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn names(set: &[HeaderName]) -> Vec<&str> {
    set.iter().map(HeaderName::as_str).collect()
}

fn fields(headers: &HeaderMap) -> Fields<'_> {
    let fields = headers.iter();
    fields
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect()
}

fn map(fields: Fields<'_>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let name = HeaderName::try_from(name).ok()?;
        headers.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_hours(24);

    const BORN: Born = Born {
        node: 7,
        purge: 3,
        at: 1_700_000_000_000,
    };

    fn lifetime(reuse: Reuse) -> Lifetime {
        Lifetime {
            stored_at: clock::now(),
            initial_age: Duration::from_millis(1_500),
            fresh_for: Duration::from_mins(1),
            stale_while_revalidate: Duration::from_secs(5),
            stale_if_error: Duration::from_millis(u64::MAX),
            reuse,
        }
    }

    fn entry(reuse: Reuse, body: &[u8]) -> Entry {
        let mut headers = HeaderMap::new();
        headers.append("etag", HeaderValue::from_static("\"a\""));
        headers.append("x-twice", HeaderValue::from_static("1"));
        headers.append("x-twice", HeaderValue::from_bytes(b"\xff2").unwrap());
        let content = Content::Response(StoredResponse {
            status: StatusCode::NOT_FOUND,
            headers: headers.clone(),
            body: StoredBody::new(vec![bytes::Bytes::copy_from_slice(body)]),
            lifetime: lifetime(reuse),
            decided_by: "ttl-by-path@0123456789ab".into(),
        });
        let key = KeyHasher::default().key(b"a key").to_key();
        Entry::new(key, SiteId(9), vec![Tag(1), Tag(u64::MAX)], content).with_targeted(&headers)
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for reuse in [Reuse::Normal, Reuse::FreshOnly, Reuse::AfterValidation] {
            let entry = entry(reuse, b"content");
            let envelope = Envelope::of(&entry, BORN, [5; 32]).unwrap();
            let mut found = Envelope::decode(&envelope.encode().unwrap()).unwrap();
            // The wall clock and the other one do not tick together.
            let (Kind::Response(was), Kind::Response(is)) = (&envelope.kind, &mut found.kind)
            else {
                panic!("a response")
            };
            let age = |head: &Head| head.lifetime.age(Moment::from_millis(1 << 40));
            assert!(age(was).abs_diff(age(is)) < Duration::from_millis(100));
            is.lifetime = was.lifetime;
            assert_eq!(found, envelope);
            let body = StoredBody::new(vec![bytes::Bytes::from_static(b"content")]);
            let again = found.into_entry(&KeyHasher::default(), body);
            assert!(again.charge() <= entry.charge());
            assert_eq!(again.headers(), entry.headers());
            assert_eq!(again.targeted(), entry.targeted());
            assert_eq!((again.site, again.tags), (entry.site, entry.tags));
        }
    }

    #[test]
    fn nominations_are_kept_without_content() {
        let names = |names: &[&'static str]| {
            let names = names.iter().map(|name| HeaderName::from_static(name));
            names.collect::<Vec<_>>()
        };
        let nominations = Nominations {
            sets: vec![names(&["accept", "x-a"]), names(&[])],
        };
        let key = KeyHasher::default().key(b"k").to_key();
        let content = Content::Nominations(nominations.clone());
        let entry = Entry::new(key, SiteId(1), Vec::new(), content);
        let envelope = Envelope::of(&entry, BORN, [0; 32]).unwrap();
        let found = Envelope::decode(&envelope.encode().unwrap()).unwrap();
        assert_eq!(found.kind, Kind::Nominations(nominations));
        assert_eq!((found.length, found.expires()), (0, None));
    }

    #[test]
    fn ages_go_on_while_nothing_runs_and_the_future_is_not_believed() {
        let stored = |ms: i64| {
            let entry = entry(Reuse::Normal, b"");
            let envelope = Envelope::of(&entry, BORN, [0; 32]).unwrap();
            let Kind::Response(head) = &envelope.kind else {
                panic!("a response")
            };
            let mut form = HeadForm::of(head);
            form.stored_at = form.stored_at.checked_add_signed(ms).unwrap();
            form.into_head()
        };
        let day = i64::try_from(DAY.as_millis()).unwrap();
        let head = stored(-day).unwrap();
        let age = head.lifetime.age(clock::now());
        assert!(age >= DAY + Duration::from_millis(1_500));
        assert!(age < DAY + Duration::from_mins(1));
        assert!(stored(1_000).is_ok(), "clocks are never quite right");
        assert_eq!(stored(day).unwrap_err(), Undecodable::Future);
    }

    #[test]
    fn only_what_can_be_validated_outlives_its_windows() {
        let mut entry = entry(Reuse::Normal, b"");
        let envelope = |entry: &Entry| Envelope::of(entry, BORN, [0; 32]).unwrap();
        assert_eq!(envelope(&entry).expires(), None);
        let Content::Response(stored) = &mut entry.content else {
            panic!("a response")
        };
        stored.headers.remove("etag");
        stored.lifetime.stale_if_error = Duration::ZERO;
        let left = envelope(&entry).expires().unwrap() - clock::unix_millis(clock::wall());
        assert!((60_000..=63_500).contains(&left), "{left}");
    }

    proptest! {
        #[test]
        fn whatever_is_decoded_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = bytes;
            Envelope::decode(&bytes).ok();
            bytes.insert(0, VERSION);
            Envelope::decode(&bytes).ok();
        }

        #[test]
        fn what_is_cut_or_changed_never_passes_for_longer(cut in 0..200_usize) {
            let envelope = Envelope::of(&entry(Reuse::Normal, b"x"), BORN, [1; 32]).unwrap();
            let form = envelope.encode().unwrap();
            let cut = cut.min(form.len() - 1);
            prop_assert!(Envelope::decode(&form[..cut]).is_err());
            let longer = [form.as_slice(), b"\0"].concat();
            prop_assert_eq!(Envelope::decode(&longer).unwrap_err(), Undecodable::Malformed);
        }
    }
}
