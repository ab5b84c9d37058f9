//! What a fill teaches those that come after it: whether what its key brings can be shared, and
//! whether it fails.

use http::StatusCode;
use http::header::AUTHORIZATION;

use super::{Fill, Judged};
use crate::cache::flight::{Failure, Flight};
use crate::cache::outcomes::Place;
use crate::clock;
use crate::entry::Usable;
use crate::front::ask::Ask;
use crate::front::origin::outage::Standing;
use crate::front::stand_in::is_server_failure;
use crate::rfc9111::storable::{Reason, Storable};

impl Fill {
    /// The origin did not answer.
    pub(super) fn learn_failure(&self, failure: Failure) {
        let of_key = match failure {
            Failure::TimedOut => true,
            // Unless the origin is in trouble as a whole, of which nothing need be kept by key.
            Failure::Unreachable => self.site.upstream.outage.standing() == Standing::Up,
            Failure::Crowded
            | Failure::Abandoned
            | Failure::BodyTooLarge
            | Failure::BodyBrokeOff => false,
        };
        if of_key {
            self.note_failure(Some(failure));
        }
    }

    /// The origin answered with `status`, which came to `judged`.
    pub(super) fn learn(&self, flight: &Flight, status: StatusCode, judged: &Judged) {
        let outcomes = &self.worker.edge.cache.outcomes;
        if judged.decision.lifetime.is_some() {
            return outcomes.forget(&self.expected);
        }
        if is_server_failure(status) {
            self.note_failure(None);
            if self.is_stood_in_for(status) {
                return;
            }
        } else {
            outcomes.answered(self.place());
        }
        // Neither what this request alone forbids, nor what was asked of this response alone, says
        // anything of the next one.
        let of_request = judged.native.storable == Storable::No(Reason::RequestNoStore);
        let remembered = self.site.hit_for_miss;
        if !of_request && self.ask == Ask::Whole && !remembered.is_zero() && !flight.is_purged() {
            let until = clock::now().after(remembered);
            outcomes.not_shared(self.place(), self.site.id, &self.tags, until);
        }
    }

    /// The origin answered with `status`, and only the fields were asked for.
    pub(super) fn learn_status(&self, status: StatusCode) {
        if is_server_failure(status) {
            self.note_failure(None);
        } else {
            self.worker.edge.cache.outcomes.answered(self.place());
        }
    }

    /// Whether a stored response stands in for one with `status` (RFC 5861 4), which therefore
    /// must not take its place.
    pub(super) fn is_stood_in_for(&self, status: StatusCode) -> bool {
        let lifetime = self.stale.as_ref().and_then(|stale| stale.lifetime());
        let usable = lifetime.map(|lifetime| lifetime.judge(clock::now()));
        let stands_in = matches!(
            usable,
            Some(Usable::StaleWhileRevalidate { .. } | Usable::Stale { on_error: true, .. })
        );
        stands_in && is_server_failure(status)
    }

    fn note_failure(&self, failure: Option<Failure>) {
        let (now, cache) = (clock::now(), &self.worker.edge.cache);
        let whose = (self.site.id, &*self.tags);
        let random = cache.hasher.hash(&now.as_millis().to_le_bytes());
        cache
            .outcomes
            .failed(self.place(), whose, failure, now, random);
    }

    fn place(&self) -> Place {
        Place::new(&self.expected, self.request.contains_key(AUTHORIZATION))
    }
}
