//! The parts of a fill that know of parts: what of the content an answer brings, and how it is
//! kept (RFC 9111 3.3, 3.4; RFC 9110 15.3.7).
//!
//! A part is judged as the response it is a part of: status 200, the length of the whole. Parts
//! are joined only if both have the same strong validator, and only with what is resident at the
//! moment of storing, so that nothing that was purged meanwhile comes back.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AGE, CONTENT_RANGE};
use http::{HeaderMap, Response, StatusCode};

use super::{Fill, Judged, is_of_the_request};
use crate::cache::flight::Pilot;
use crate::cache::lower::LowerWriter;
use crate::cache::stores::StoreOutcome;
use crate::clock;
use crate::entry::{
    CacheKey, Content, Entry, PartialResponse, Parts, StoredBody, StoredHead, StoredResponse,
    Stretch, Tag, Usable,
};
use crate::front::ask::Ask;
use crate::front::below;
use crate::front::origin::OriginBody;
use crate::rfc9111::content_range::{ContentRange, same_content};
use crate::rfc9111::validation;
use crate::tier::envelope::Envelope;
use crate::tier::memory::put::{Put, Reservation};

/// How often a part is joined anew because another one came in between.
const JOINS_MAX: usize = 4;

/// What an answer of the origin brings.
#[derive(Clone, Debug)]
pub(super) enum Brought {
    /// All there is: a final status other than 206, or a 206 with all of the content.
    Whole(Option<ContentRange>),
    /// A part of the content.
    Part(ContentRange),
    /// What was missing of the content.
    Rest(ContentRange),
}

/// The content that is on its way to the readers and the tier.
pub(super) struct Incoming {
    /// The status that readers are told.
    pub(super) status: StatusCode,
    /// The status of the response that it is, or is a part of.
    pub(super) judged_as: StatusCode,
    pub(super) headers: HeaderMap,
    /// Which part it is, if not all.
    pub(super) part: Option<ContentRange>,
    /// Bytes that the origin sends, if it has told.
    pub(super) arriving: Option<u64>,
    /// Bytes that readers get, if that is known.
    pub(super) length: Option<u64>,
    /// Bytes of the whole content, if that is known.
    pub(super) complete: Option<u64>,
    /// What stands before the bytes that arrive, and after them.
    pub(super) lead: Vec<Bytes>,
    pub(super) tail: Vec<Bytes>,
    /// Whether what is stored is joined with it.
    pub(super) joins: bool,
}

/// What a flight has brought to be stored.
pub(super) struct Arrived {
    pub(super) key: CacheKey,
    pub(super) tags: Vec<Tag>,
    pub(super) pieces: Vec<Bytes>,
    /// The fields that the origin addressed to this cache.
    pub(super) targeted: HeaderMap,
    pub(super) response: StoredHead,
}

impl Fill {
    /// The parts that were stored when the fill began.
    pub(super) fn parts(&self) -> Option<&PartialResponse> {
        self.stale.as_ref().and_then(|entry| entry.partial())
    }

    /// What `response` brings in answer to `ask`. None if it was to complete what is stored, and
    /// does not.
    pub(super) fn brings(&self, ask: Ask, response: &Response<OriginBody>) -> Option<Brought> {
        let rest = match ask {
            Ask::Rest(rest) => Some(rest),
            Ask::Whole | Ask::Part(_) | Ask::Fields => None,
        };
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::RANGE_NOT_SATISFIABLE if rest.is_some() => return None,
            _ => return Some(Brought::Whole(None)),
        }
        let headers = response.headers();
        let found = ContentRange::of(headers, response.body().length());
        match (found, rest) {
            (None, Some(_)) => None,
            // A 206 of which nobody can tell what it brings is passed on, or not, as it is.
            (None, None) => Some(Brought::Whole(None)),
            (Some(range), Some(rest)) => {
                let fits = self.completes(rest, &range, headers);
                fits.then_some(Brought::Rest(range))
            }
            (Some(range), None) if range.is_whole() => Some(Brought::Whole(Some(range))),
            (Some(range), None) => Some(Brought::Part(range)),
        }
    }

    /// Whether the part `range` of a response with `headers` is just the `rest` of what is stored.
    fn completes(&self, rest: Stretch, range: &ContentRange, headers: &HeaderMap) -> bool {
        let Some(stored) = self.parts() else {
            return false;
        };
        let known = stored.parts.complete();
        let agree = known.is_none() || range.complete.is_none() || known == range.complete;
        let ends = match rest.end {
            Some(end) => end == range.range.end,
            None => range.complete == Some(range.range.end),
        };
        agree && ends && range.range.start == rest.start && same_content(&stored.headers, headers)
    }

    /// What arrives: an answer with `status` and the end-to-end fields `headers`, of which the
    /// origin sends `arriving` bytes.
    pub(super) fn content(
        &self,
        brought: Brought,
        status: StatusCode,
        mut headers: HeaderMap,
        arriving: Option<u64>,
    ) -> Incoming {
        let (range, rest) = match brought {
            Brought::Whole(None) => {
                return Incoming {
                    status,
                    judged_as: status,
                    headers,
                    part: None,
                    arriving,
                    length: arriving,
                    complete: arriving,
                    lead: Vec::new(),
                    tail: Vec::new(),
                    joins: false,
                };
            }
            Brought::Whole(Some(range)) | Brought::Part(range) => (range, None),
            Brought::Rest(range) => {
                let around = |stored: &PartialResponse| stored.parts.around(range.range.start);
                let around = self.parts().map(around).unwrap_or_default();
                (range, Some(around))
            }
        };
        let stored = self
            .parts()
            .filter(|stored| same_content(&stored.headers, &headers));
        headers.remove(CONTENT_RANGE);
        if let Some(stored) = stored {
            headers = joined(&stored.headers, &headers);
        }
        let complete = range
            .complete
            .or_else(|| stored.and_then(|stored| stored.parts.complete()));
        let bytes = range.range.end - range.range.start;
        let is_part = rest.is_none() && !range.is_whole();
        let (lead, tail) = rest.unwrap_or_default();
        Incoming {
            status: if is_part { status } else { StatusCode::OK },
            judged_as: StatusCode::OK,
            headers,
            arriving: Some(bytes),
            length: if is_part { Some(bytes) } else { complete },
            complete,
            lead,
            tail,
            joins: stored.is_some(),
            part: is_part.then_some(range),
        }
    }

    /// Removes what was stored for the key, which nothing will replace, if the response with
    /// `headers` shows that it is out of date.
    pub(super) fn give_up_stale(&self, headers: &HeaderMap) {
        let Some(stale) = &self.stale else { return };
        let holds = stale
            .partial()
            .is_some_and(|stored| same_content(&stored.headers, headers));
        if !holds {
            self.give_up(stale);
        }
    }

    /// Removes what was stored for the key if `content`, which is not to be stored, tells how the
    /// resource is now: that it is there, elsewhere or gone. Any other status may be of the moment,
    /// or of who asks (RFC 9111 4.3.3).
    pub(super) fn outdate_stale(&self, content: &Incoming, judged: &Judged) {
        let status = content.judged_as;
        let tells = status.is_success()
            || status.is_redirection()
            || matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        let stands = judged.decision.lifetime.is_some()
            || content.part.is_some()
            || is_of_the_request(judged.native.storable);
        if let Some(stale) = self.stale.as_ref().filter(|_| tells && !stands) {
            self.give_up(stale);
        }
    }

    /// Stores a whole response, of `length` bytes if that was told.
    pub(super) fn keep_whole(
        &self,
        pilot: &Pilot,
        (status, length): (StatusCode, Option<u64>),
        mut arrived: Arrived,
        reservation: Reservation,
    ) {
        let body = StoredBody::joined(std::mem::take(&mut arrived.pieces));
        if length.is_some_and(|length| length != body.len()) {
            return;
        }
        let entry = self.whole(status, body, arrived);
        self.store(pilot, &entry, Some(reservation));
    }

    /// Stores a whole response whose content `written` holds in a tier below memory.
    pub(super) async fn keep_below(
        &self,
        pilot: &Pilot,
        status: StatusCode,
        arrived: Arrived,
        (written, mut outcome): (LowerWriter, StoreOutcome),
    ) {
        let (cache, flight) = (&self.worker.edge.cache, pilot.flight());
        if cache.flights.is_outdated(flight) {
            return;
        }
        let entry = self.whole(status, StoredBody::default(), arrived);
        let born = cache.flights.purges.born(flight.began, flight.at);
        let Some(envelope) = Envelope::of(&entry, born, [0; 32]) else {
            return;
        };
        // Memory must not go on to answer with something older.
        let key = entry.key.view();
        let _succeeding = cache.lower.announce(key);
        cache.flights.supersede(flight);
        let older = |held: &Arc<Entry>| held.serial() < entry.serial();
        self.site.domain.remove_if(key, &older);
        let stands = || !cache.flights.is_outdated(flight);
        let envelope = (envelope, stands);
        let commit = cache
            .lower
            .commit(written, envelope, &cache.hasher, &mut outcome);
        commit.await;
        self.site
            .metrics
            .count_store(self.site.write_policy, &outcome);
    }

    /// The entry of a whole response.
    fn whole(&self, status: StatusCode, body: StoredBody, arrived: Arrived) -> Arc<Entry> {
        let content = Content::Response(StoredResponse {
            status,
            headers: arrived.response.headers,
            body,
            lifetime: arrived.response.lifetime,
            decided_by: arrived.response.decided_by,
        });
        let entry = Entry::new(arrived.key, self.site.id, arrived.tags, content);
        let entry = entry.with_targeted(&arrived.targeted);
        Arc::new(entry.in_place_of(self.stale.as_deref()))
    }

    /// Stores a part, together with the parts of the same content that are stored.
    pub(super) fn keep_part(
        &self,
        pilot: &Pilot,
        part: &ContentRange,
        mut arrived: Arrived,
        reservation: Reservation,
    ) {
        let body = StoredBody::joined(std::mem::take(&mut arrived.pieces));
        if body.len() != part.range.end - part.range.start {
            return;
        }
        let Some(new) = Parts::new(part.range.start, body, part.complete) else {
            return;
        };
        let (domain, key) = (&self.site.domain, &arrived.key);
        let mut reservation = Some(reservation);
        for _ in 0..JOINS_MAX {
            let found = domain.peek(key.view());
            let joined = match found.as_deref() {
                // The whole came in between.
                Some(found) if is_usable(found) => return,
                Some(found) => self.join(found, &new, &arrived),
                None => None,
            };
            let entry = joined.unwrap_or_else(|| {
                let (tags, response) = (arrived.tags.clone(), arrived.response.clone());
                Entry::new(
                    key.clone(),
                    self.site.id,
                    tags,
                    content(new.clone(), response),
                )
                .with_targeted(&arrived.targeted)
            });
            let flights = &self.worker.edge.cache.flights;
            let may_store = || !flights.is_outdated(pilot.flight());
            let entry = Arc::new(entry.in_place_of(found.as_deref()));
            let put = domain.put_over(&entry, reservation.take(), found.as_ref(), &may_store);
            if put != Put::Superseded {
                let mut outcome = StoreOutcome::default();
                outcome.add_memory(put);
                below::store(&self.worker, &self.site, pilot.flight(), (&entry, outcome));
                break;
            }
        }
    }

    /// The entry of the parts of `found` and `new`, if they are of the same content and not too
    /// much together.
    fn join(&self, found: &Entry, new: &Parts, arrived: &Arrived) -> Option<Entry> {
        let content = together(found.partial()?, new, &arrived.response)?;
        let mut all: Vec<Tag> = Vec::new();
        for tag in found.tags.iter().chain(&arrived.tags) {
            if !all.contains(tag) {
                all.push(*tag);
            }
        }
        let entry = Entry::new(found.key.clone(), self.site.id, all, content);
        let entry = entry.with_targeted(&arrived.targeted);
        // A tier would reject it, and drop what is stored.
        let fits = entry.charge() <= self.site.domain.usage().capacity / 4;
        fits.then_some(entry)
    }
}

/// What is stored and what is `new`, under the head of the `new`, if both are of the same content.
fn together(stored: &PartialResponse, new: &Parts, response: &StoredHead) -> Option<Content> {
    if !same_content(&stored.headers, &response.headers) {
        return None;
    }
    let parts = stored.parts.with(new)?.bounded(new.start());
    let response = StoredHead {
        headers: joined(&stored.headers, &response.headers),
        ..response.clone()
    };
    Some(content(parts, response))
}

/// Whether `found` is a whole response that may be used.
fn is_usable(found: &Entry) -> bool {
    let usable = found
        .response()
        .map(|stored| stored.lifetime.judge(clock::now()));
    matches!(usable, Some(Usable::Fresh { .. }))
}

/// Parts as an entry holds them: as a whole response once nothing is missing.
fn content(parts: Parts, response: StoredHead) -> Content {
    let StoredHead {
        headers,
        lifetime,
        decided_by,
    } = response;
    match parts.whole().cloned() {
        Some(body) => Content::Response(StoredResponse {
            status: StatusCode::OK,
            headers,
            body,
            lifetime,
            decided_by,
        }),
        None => Content::Partial(PartialResponse {
            headers,
            parts,
            lifetime,
            decided_by,
        }),
    }
}

/// The fields of parts that are joined: those `stored`, brought up to date by the `new` ones
/// (RFC 9111 3.2, 3.4). The age is that of the new.
fn joined(stored: &HeaderMap, new: &HeaderMap) -> HeaderMap {
    let mut headers = validation::freshen(stored, new);
    match new.get(AGE) {
        Some(age) => headers.insert(AGE, age.clone()),
        None => headers.remove(AGE),
    };
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::entry::{Lifetime, Reuse};
    use http::HeaderValue;
    use http::header::ETAG;
    use proptest::prelude::*;
    use std::time::Duration;

    const LENGTH: u64 = 60;
    /// Entity tags of responses, the last one of none.
    const TAGS: [&str; 4] = ["\"a\"", "\"b\"", "W/\"a\"", ""];

    fn head(tag: &'static str) -> StoredHead {
        let mut headers = HeaderMap::new();
        if !tag.is_empty() {
            headers.insert(ETAG, HeaderValue::from_static(tag));
        }
        StoredHead {
            headers,
            lifetime: Lifetime {
                stored_at: Moment::from_millis(0),
                initial_age: Duration::ZERO,
                fresh_for: Duration::ZERO,
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
                reuse: Reuse::Normal,
            },
            decided_by: "test".into(),
        }
    }

    /// Byte `at` of the content that arrived as the `turn`-th under `tag`: the same each time for
    /// a strong tag only.
    fn byte(at: u64, tag: &str, turn: usize) -> u8 {
        let seed = match tag {
            "\"a\"" => 0,
            "\"b\"" => 100,
            _ => 10 * turn,
        };
        u8::try_from((usize::try_from(at).unwrap() + seed) % 251).unwrap()
    }

    fn bytes_of(content: &Content, at: u64) -> Option<u8> {
        let (body, place) = match content {
            Content::Response(whole) => (&whole.body, at),
            Content::Partial(partial) => {
                let (body, within) = partial.parts.find(&(at..at + 1))?;
                (body, within.start)
            }
            Content::Nominations(_) => return None,
        };
        let all = body.pieces().concat();
        all.get(usize::try_from(place).unwrap()).copied()
    }

    proptest! {
        /// Whatever arrives in whatever order: a byte that is held is one that came under the
        /// validator of what is stored, and none of those is lost.
        #[test]
        fn no_byte_is_held_under_a_validator_it_did_not_come_with(
            arrivals in prop::collection::vec((0_usize..4, 0..LENGTH, 1_u64..30), 1..24),
        ) {
            let mut stored: Option<Content> = None;
            let mut model: Vec<Option<u8>> = Vec::new();
            let mut model_tag = "";
            for (turn, (tag, start, len)) in arrivals.into_iter().enumerate() {
                let (tag, end) = (TAGS[tag], (start + len).min(LENGTH));
                let text: Vec<u8> = (start..end).map(|at| byte(at, tag, turn)).collect();
                let body = StoredBody::new(vec![text.into()]);
                let new = Parts::new(start, body, Some(LENGTH)).unwrap();
                let joins = tag == model_tag && tag.starts_with('"');
                if !joins || stored.as_ref().is_none_or(|stored| matches!(stored, Content::Response(_))) {
                    model = vec![None; usize::try_from(LENGTH).unwrap()];
                    model_tag = tag;
                }
                for at in start..end {
                    model[usize::try_from(at).unwrap()] = Some(byte(at, tag, turn));
                }
                let old = match &stored {
                    Some(Content::Partial(partial)) => together(partial, &new, &head(tag)),
                    _ => None,
                };
                let now = old.unwrap_or_else(|| content(new, head(tag)));
                for at in 0..LENGTH {
                    prop_assert_eq!(bytes_of(&now, at), model[usize::try_from(at).unwrap()]);
                }
                let whole = model.iter().all(Option::is_some);
                prop_assert_eq!(matches!(now, Content::Response(_)), whole);
                stored = Some(now);
            }
        }
    }
}
