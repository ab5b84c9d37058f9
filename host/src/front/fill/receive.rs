//! A response that arrives: decided on, told to everyone who waits, carried, and stored when it is
//! whole.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode};

use super::part::{Arrived, Brought, Incoming};
use super::{Fill, Judged, Listed, end_to_end, kept, withhold};
use crate::cache::flight::{Flight, Head, Landing, Pilot, Shared, WINDOW};
use crate::cache::stores::StoreOutcome;
use crate::entry::{CacheKey, StoredHead};
use crate::front::carry::{HEAD_BYTES, STEP, Sink, carry};
use crate::front::origin::OriginBody;
use crate::front::{below, coding};
use crate::rfc9111::targeted;
use crate::rfc9111::vary::Nominated;
use crate::tier::memory::put::{Rejected, Reservation};

/// A response that was decided on, ready to be told and to be stored.
struct Decided {
    head: Head,
    /// What is stored with its content, if it is.
    arrived: Option<Arrived>,
}

impl Fill {
    /// Takes a response that brings content.
    pub(super) async fn receive(
        self,
        (response, brought, sent): (Response<OriginBody>, Brought, SystemTime),
        pilot: Pilot,
        mut listed: Listed,
    ) {
        let (answered, headers, body) = self.encoded(response);
        let mut content = self.content(brought, answered, headers, body.length());
        let decided = self.decide(&mut content, answered, sent, &pilot, &mut listed);
        let (mut head, mut arrived) = (decided.head, decided.arrived);
        let key = arrived.as_ref().map(|arrived| arrived.key.clone());
        let sink = self.sink(&content, key.as_ref());
        head.stored = sink.stores();
        head.kept = sink.keeps() || head.length.is_none_or(|length| length <= WINDOW);
        if let Some(arrived) = arrived.as_ref().filter(|_| !head.stored) {
            self.give_up_stale(&arrived.response.headers);
        }
        pilot.land(Landing::Response(Arc::new(head)));
        for piece in std::mem::take(&mut content.lead) {
            pilot.push(piece);
        }
        let store = |pilot: &Pilot, mut pieces: Vec<Bytes>, reservation| {
            pieces.extend(content.tail.iter().cloned());
            if let Some(arrived) = arrived.take() {
                self.keep(pilot, &content, Arrived { pieces, ..arrived }, reservation);
            }
        };
        let carried = carry(&pilot, body, content.arriving, sink, store).await;
        // Without it the flight breaks off for those who read.
        let Ok((below, outcome)) = carried else {
            return;
        };
        match (below, arrived) {
            (Some(written), Some(arrived)) => {
                let written = (written, outcome);
                self.keep_below(&pilot, content.status, arrived, written)
                    .await;
            }
            // What no tier takes must not leave something older to answer with.
            (None, Some(arrived)) if content.part.is_none() => {
                self.forget(arrived.key.view());
                let policy = self.site.write_policy;
                self.site.metrics.count_store(policy, &outcome);
            }
            _ => {}
        }
        // A request that comes now finds what was stored; one that came before reads on.
        drop(listed);
        for piece in content.tail {
            pilot.push(piece);
        }
        pilot.complete();
    }

    /// Decides on the response of which `content` is on its way, and tells its flight.
    fn decide(
        &self,
        content: &mut Incoming,
        answered: StatusCode,
        sent: SystemTime,
        pilot: &Pilot,
        listed: &mut Listed,
    ) -> Decided {
        let headers = std::mem::take(&mut content.headers);
        let mut judged = self.judge(content.judged_as, headers, sent, content.complete);
        let joined = self.stale.as_deref().filter(|_| content.joins);
        let tags = self.tag(&mut judged, joined, pilot);
        if self.is_stood_in_for(content.judged_as) {
            judged.decision.lifetime = None;
        }
        self.learn(pilot.flight(), content.judged_as, &judged);
        self.outdate_stale(content, &judged);
        let key = self.response_key(&judged, listed);
        let shared = sharing(&judged, &key);
        let Judged {
            mut headers,
            native,
            decision,
            ..
        } = judged;
        let targeted = targeted::take(&mut headers);
        let withheld = withhold(&mut headers, &native.withheld);
        let headers = kept(headers);
        let left = decision.lifetime.map(|lifetime| {
            let age = lifetime.initial_age.as_secs();
            lifetime.fresh_for.as_secs().saturating_sub(age)
        });
        Decided {
            head: Head {
                status: content.status,
                answered,
                part: content.part.clone(),
                headers: headers.clone(),
                length: content.length,
                age: native.initial_age.as_secs(),
                ttl: left.unwrap_or_default(),
                shared,
                withheld,
                stored: false,
                kept: false,
            },
            arrived: decision.lifetime.map(|lifetime| Arrived {
                tags: self.of_key(&key, tags),
                key,
                pieces: Vec::new(),
                targeted,
                response: StoredHead {
                    headers,
                    lifetime,
                    decided_by: decision.decided_by,
                },
            }),
        }
    }

    /// Where `content` goes besides the readers, if it is to be stored under a `key`.
    fn sink<'a>(&'a self, content: &Incoming, key: Option<&'a CacheKey>) -> Sink<'a> {
        let Some(key) = key else {
            return Sink::default();
        };
        let bytes = content.arriving.unwrap_or(STEP).saturating_add(HEAD_BYTES);
        let reservation = match self.site.domain.reserve(bytes) {
            Some(reservation) => Ok(reservation),
            None if bytes > self.site.domain.usage().capacity / 4 => Err(Rejected::TooLarge),
            None => Err(Rejected::NoRoom),
        };
        // Parts are put together in memory only.
        let whole = content.part.is_none() && content.lead.is_empty() && content.tail.is_empty();
        let lower = &self.worker.edge.cache.lower;
        let lower = whole.then_some((&**lower, key.view()));
        Sink::new(reservation, lower, content.arriving)
    }

    /// Keeps in memory what has arrived of `content`.
    fn keep(&self, pilot: &Pilot, content: &Incoming, arrived: Arrived, reservation: Reservation) {
        match &content.part {
            Some(part) => self.keep_part(pilot, part, arrived, reservation),
            None => {
                let whole = (content.status, content.length);
                self.keep_whole(pilot, whole, arrived, reservation);
            }
        }
    }

    /// A response with its end-to-end fields, in the coding that the site wants it stored in.
    fn encoded(&self, response: Response<OriginBody>) -> (StatusCode, HeaderMap, OriginBody) {
        let (head, body) = response.into_parts();
        let (offered, length) = (&self.site.compress, body.length());
        let mut headers = end_to_end(head.headers, head.version);
        let coding = coding::apply(offered, &self.request, head.status, &mut headers, length);
        (head.status, headers, body.encoded(coding))
    }

    /// The key of the response: secondary where it nominates fields. Requests that come from now
    /// on find the flight under that key.
    fn response_key(&self, judged: &Judged, listed: &mut Listed) -> CacheKey {
        let fields = names(&judged.nominated);
        if fields.is_empty() || judged.decision.lifetime.is_none() {
            return self.primary.clone();
        }
        let cache = &self.worker.edge.cache;
        let primary = self.primary.view();
        let key = cache.secondary(primary, &fields, &self.request);
        self.nominate(&fields, &listed.flight);
        let alias = self.ask.flight_key(cache, &key);
        if alias != listed.flight.key && !listed.flight.is_purged() {
            cache.flights.alias(&listed.flight, &alias);
            listed.alias = Some(alias);
        }
        key
    }

    /// Remembers, in every tier, that responses of the primary key nominate `fields`.
    pub(super) fn nominate(&self, fields: &[HeaderName], flight: &Arc<Flight>) {
        let cache = &self.worker.edge.cache;
        let (domain, tags) = (&self.site.domain, &self.tags);
        let primary = self.primary.view();
        if fields.is_empty() {
            return;
        }
        let nomination = cache.nominate(domain, primary, self.site.id, tags, fields);
        if let Some(nomination) = nomination {
            let nomination = (&nomination, StoreOutcome::default());
            below::store(&self.worker, &self.site, flight, nomination);
        }
    }
}

/// Who may be answered by a response that is stored, if it is, under `key`.
fn sharing(judged: &Judged, key: &CacheKey) -> Shared {
    match &judged.nominated {
        Nominated::Any => Shared::No,
        _ if judged.decision.lifetime.is_none() => Shared::No,
        nominated => Shared::With {
            nominated: names(nominated),
            key: key.clone(),
        },
    }
}

/// The fields that a response which may be stored nominates.
pub(super) fn names(nominated: &Nominated) -> Vec<HeaderName> {
    match nominated {
        Nominated::Fields(names) => names.clone(),
        Nominated::Nothing | Nominated::Any => Vec::new(),
    }
}
