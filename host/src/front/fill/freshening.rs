//! Answers that are about the stored response: a 304, which freshens it (RFC 9111 4.3.4), and the
//! answer to a HEAD request that went to the origin because what is stored may not answer it, which
//! freshens the stored response to GET or shows that it is out of date (4.3.5).

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{CONTENT_LENGTH, VIA};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, Version};

use super::receive::names;
use super::{Fill, Listed, end_to_end, is_of_the_request, kept, record_date, withhold};
use crate::cache::flight::{Flight, Head, Landing, Pilot, Shared, Validation};
use crate::clock;
use crate::entry::{CacheKey, Entry, StoredHead};
use crate::front::origin::OriginBody;
use crate::front::{coding, fields, tagging};
use crate::rfc9111::facts::{RequestFacts, ResponseFacts};
use crate::rfc9111::freshness::{Times, native};
use crate::rfc9111::targeted;
use crate::rfc9111::validation::{self, Identifies};

impl Fill {
    /// Freshens `stale` by a 304, if the 304 is about it (RFC 9111 4.3.4).
    pub(super) fn freshen(
        &self,
        stale: &Arc<Entry>,
        update: &Response<OriginBody>,
        sent: SystemTime,
        pilot: &Pilot,
    ) -> bool {
        let Some(stored) = stale.headers() else {
            return false;
        };
        let mut fields = update.headers().clone();
        coding::amend_update(&self.site.compress, stored, &mut fields);
        if validation::identifies(stored, &fields) == Identifies::Another {
            return false;
        }
        let update = (update.status(), update.version(), fields);
        self.refresh(stale, update, sent, pilot);
        true
    }

    /// Brings `stale` up to date by an answer that is about it: its status and its fields.
    fn refresh(
        &self,
        stale: &Arc<Entry>,
        (answered, version, mut update): (StatusCode, Version, HeaderMap),
        sent: SystemTime,
        pilot: &Pilot,
    ) {
        fields::remove_hop_by_hop(&mut update);
        record_date(&mut update);
        if update.contains_key(VIA) {
            fields::append_via(&mut update, version);
        }
        let mut known = stale.headers().cloned().unwrap_or_default();
        known.extend(stale.targeted().cloned().unwrap_or_default());
        let headers = validation::freshen(&known, &update);
        let (status, length) = match stale.response() {
            Some(stored) => (stored.status, Some(stored.body.len())),
            None => (
                StatusCode::OK,
                self.parts().and_then(|stored| stored.parts.complete()),
            ),
        };
        let mut judged = self.judge(status, headers, sent, length);
        let tags = self.tag(&mut judged, Some(stale), pilot);
        self.learn(pilot.flight(), status, &judged);
        let targeted = targeted::take(&mut judged.headers);
        let withheld = withhold(&mut judged.headers, &judged.native.withheld);
        let lifetime = judged.decision.lifetime;
        let fresh = StoredHead {
            headers: kept(judged.headers),
            lifetime: lifetime.unwrap_or_else(|| judged.native.to_lifetime(clock::now())),
            decided_by: judged.decision.decided_by,
        };
        let nominated = names(&judged.nominated);
        let key = match lifetime {
            Some(_) => self.freshened_key(stale, &nominated, pilot.flight()),
            None => stale.key.clone(),
        };
        let tags = self.of_key(&key, tags);
        let entry = stale.freshened(fresh, tags).with_targeted(&targeted);
        let entry = Arc::new(entry.under(key.clone()).in_place_of(Some(stale)));
        if lifetime.is_some() {
            self.store(pilot, &entry, None);
        } else if !is_of_the_request(judged.native.storable) {
            // What the origin no longer lets anyone store is not kept either.
            self.give_up(stale);
        }
        pilot.land(Landing::Validated(Arc::new(Validation {
            entry,
            shared: match lifetime {
                Some(_) => Shared::With { nominated, key },
                None => Shared::No,
            },
            stored: lifetime.is_some() && !pilot.flight().is_purged(),
            withheld,
            answered,
        })));
    }

    /// The key of `stale` once it is up to date and nominates `fields`. An update that nominates
    /// other fields than before makes it the response to the request that asked, and to those that
    /// agree with that one on these fields (RFC 9111 4.1).
    fn freshened_key(
        &self,
        stale: &Arc<Entry>,
        fields: &[HeaderName],
        flight: &Arc<Flight>,
    ) -> CacheKey {
        let cache = &self.worker.edge.cache;
        let key = cache.secondary(self.primary.view(), fields, &self.request);
        if key != stale.key {
            // What lies under the primary key gives way to the nomination.
            if stale.key != self.primary {
                self.give_up(stale);
            }
            self.nominate(fields, flight);
        }
        key
    }

    /// Takes an answer to HEAD that is no 304.
    pub(super) fn receive_head(
        &self,
        response: &Response<OriginBody>,
        sent: SystemTime,
        pilot: Pilot,
        listed: Listed,
    ) {
        let (status, told) = (response.status(), response.headers());
        self.learn_status(status);
        // RFC 9111 4.3.5 speaks of 200 only: another answer is about the moment.
        if status == StatusCode::OK
            && let Some(stale) = &self.stale
            && let Some(stored) = stale.response()
        {
            let length = stored.body.len();
            match validation::head_identifies(&stored.headers, length, told) {
                Identifies::This => {
                    let update = (status, response.version(), told.clone());
                    self.refresh(stale, update, sent, &pilot);
                    return;
                }
                Identifies::Another => self.give_up(stale),
            }
        }
        let length = told.get(CONTENT_LENGTH).and_then(|value| {
            let text = value.to_str().ok()?;
            text.parse().ok()
        });
        let mut headers = end_to_end(told.clone(), response.version());
        let times = Times {
            request_time: sent,
            response_time: clock::wall(),
        };
        let request = RequestFacts::new(&Method::HEAD, &self.request);
        let facts = ResponseFacts::new(status, &headers, times.response_time);
        let age = native(&request, &facts, times, &self.site.bounds).initial_age;
        targeted::take(&mut headers);
        tagging::remove(&mut headers);
        pilot.land(Landing::Response(Arc::new(Head {
            status,
            answered: status,
            part: None,
            headers: kept(headers),
            withheld: HeaderMap::new(),
            length,
            age: age.as_secs(),
            ttl: 0,
            // It is not stored, so nobody but who asked is answered with it.
            shared: Shared::No,
            stored: false,
            kept: false,
        })));
        drop(listed);
        pilot.complete();
    }
}
