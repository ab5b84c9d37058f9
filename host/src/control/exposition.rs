//! The metrics of a running edge, in the text format of Prometheus.

use super::Control;
use crate::front::origin::health::Standing;
use crate::front::origin::metrics::OriginMetrics;
use crate::front::origin::outage;
use crate::front::site::Site;
use crate::metrics::Exposition;
use crate::tier::memory::stats::UnderWay;

impl Control {
    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        let mut out = Exposition::default();
        out.gauges("larder_build_info", "The running version.");
        out.sample(
            "larder_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1,
        );
        self.requests(&mut out);
        self.stores(&mut out);
        self.origins(&mut out);
        self.fetches(&mut out);
        self.connections(&mut out);
        self.purges(&mut out);
        self.tier_metrics(&mut out);
        self.library.ledger().expose(&mut out);
        self.artefacts(&mut out);
        out.into_text()
    }

    fn requests(&self, out: &mut Exposition) {
        let table = self.edge.sites.table();
        let metrics = &self.edge.metrics;
        let name = "larder_requests_total";
        out.counters(name, "Answered requests, by what the cache did.");
        for site in table.sites() {
            let counts = site.metrics.requests();
            for (outcome, class, count) in counts.filter(|(.., count)| *count > 0) {
                let class = format!("{class}xx");
                let outcome = outcome.as_str();
                let labels = [
                    ("site", &*site.name),
                    ("cache_status", outcome),
                    ("status_class", &class),
                ];
                out.sample(name, &labels, count);
            }
        }
        counter(
            out,
            "larder_collapsed_total",
            "Requests that joined a fetch under way.",
            metrics.collapsed.get(),
        );
        counter(
            out,
            "larder_refused_requests_total",
            "Requests that reached no site.",
            metrics.refused.get(),
        );
        let name = "larder_request_duration_seconds";
        out.histograms(
            name,
            "Time from the head of a request to the head of its answer; of hits one in 16 is timed.",
        );
        out.histogram(name, &[], &metrics.request_seconds);
        let name = "larder_runtime_lag_seconds";
        out.histograms(
            name,
            "How late a timer of a worker was, ten times a second; up to a millisecond is usual.",
        );
        out.histogram(name, &[], &metrics.lag_seconds);
        if let Some(log) = &self.edge.access_log {
            let name = "larder_access_log_dropped_total";
            counter(
                out,
                name,
                "Lines of the access log that were dropped.",
                log.dropped(),
            );
        }
        if let Some(recorder) = &self.edge.recorder {
            let counts = recorder.counts();
            counter(
                out,
                "larder_recorded_requests_total",
                "Requests that were recorded.",
                counts.written.get(),
            );
            let name = "larder_record_dropped_total";
            out.counters(name, "Requests that were not recorded, by reason.");
            for (reason, dropped) in [
                ("full", &counts.dropped),
                ("unsized", &counts.unsized_content),
            ] {
                out.sample(name, &[("reason", reason)], dropped.get());
            }
        }
    }

    fn stores(&self, out: &mut Exposition) {
        self.by_site(
            out,
            "larder_stores_total",
            "Responses given to tiers to be stored.",
            |site| site.metrics.stores.get(),
        );
        self.by_site(
            out,
            "larder_store_failures_total",
            "Those that a tier failed to take whose failure counts by the site's write policy.",
            |site| site.metrics.store_failures.get(),
        );
    }

    /// One count of each site.
    fn by_site(&self, out: &mut Exposition, name: &str, help: &str, value: impl Fn(&Site) -> u64) {
        out.counters(name, help);
        for site in self.edge.sites.table().sites() {
            out.sample(name, &[("site", &site.name)], value(site));
        }
    }

    fn origins(&self, out: &mut Exposition) {
        let table = self.edge.sites.table();
        let mut family = |name, help, value: fn(&OriginMetrics) -> u64| {
            self.by_site(out, name, help, |site| value(&site.metrics.origin));
        };
        family(
            "larder_origin_requests_total",
            "Requests to origins, each counted once however often it was sent.",
            |origin| origin.requests.get(),
        );
        family(
            "larder_origin_retries_total",
            "Times that a request was sent to an origin once more.",
            |origin| origin.retries.get(),
        );
        family(
            "larder_origin_retries_denied_total",
            "Retries that would have exceeded a fifth of the requests.",
            |origin| origin.retries_denied.get(),
        );
        family(
            "larder_origin_connections_total",
            "Connections made to origins.",
            |origin| origin.connections.get(),
        );
        family(
            "larder_origin_connect_failures_total",
            "Attempts to connect to an address of an origin that failed.",
            |origin| origin.connect_failures.get(),
        );
        let name = "larder_origin_failures_total";
        out.counters(name, "Requests to origins that got no answer, by kind.");
        for site in table.sites() {
            for (kind, count) in site.metrics.origin.failures() {
                let labels = [("site", site.name.as_str()), ("kind", kind.as_str())];
                out.sample(name, &labels, count);
            }
        }
        self.origin_states(out);
    }

    /// How origins stand, and what that has cost and spared.
    fn origin_states(&self, out: &mut Exposition) {
        let table = self.edge.sites.table();
        let name = "larder_origin_connections";
        out.gauges(name, "Connections to origins that are open.");
        for site in table.sites() {
            let open = site.metrics.origin.connections_open();
            out.sample(name, &[("site", &site.name)], open);
        }
        let name = "larder_origin_address_up";
        out.gauges(
            name,
            "1 if an address of an origin is used, 0 if it is down.",
        );
        for site in table.sites() {
            for (address, standing) in site.upstream.standings() {
                let address = address.to_string();
                let labels = [("site", site.name.as_str()), ("address", address.as_str())];
                out.sample(name, &labels, u64::from(standing == Standing::Up));
            }
        }
        let name = "larder_origin_down";
        out.gauges(name, "1 if the origin of a site fails and is left alone.");
        for site in table.sites() {
            let down = site.upstream.outage.standing() == outage::Standing::Down;
            out.sample(name, &[("site", &site.name)], u64::from(down));
        }
        self.by_site(
            out,
            "larder_origin_outages_total",
            "Times that the origin of a site went down.",
            |site| site.upstream.outage.downs.get(),
        );
        let name = "larder_spared_requests_total";
        out.counters(
            name,
            "Requests that a failing origin was not asked: answered stale, or refused.",
        );
        for site in table.sites() {
            let (stale, refused) = (&site.metrics.spared, &site.metrics.refused);
            for (by, count) in [("stale", stale), ("refusal", refused)] {
                let labels = [("site", site.name.as_str()), ("by", by)];
                out.sample(name, &labels, count.get());
            }
        }
    }

    fn fetches(&self, out: &mut Exposition) {
        let (cache, metrics) = (&self.edge.cache, &self.edge.metrics);
        let mut gauge = |name, help, value: usize| {
            out.gauges(name, help);
            out.sample(name, &[], u64::try_from(value).unwrap_or(u64::MAX));
        };
        gauge("larder_flights", "Fetches under way.", cache.flights.len());
        gauge(
            "larder_waiting_requests",
            "Requests that wait for a fetch that another one has started.",
            cache.flights.waiting(),
        );
        gauge(
            "larder_remembered_keys",
            "Keys of which it is remembered that they fail or are not for sharing.",
            cache.outcomes.len(),
        );
        let (asking, waiting) = self.edge.hydration.counts();
        gauge(
            "larder_fetches_asking",
            "Fetches that ask an origin.",
            asking,
        );
        gauge(
            "larder_fetches_waiting",
            "Fetches that wait for their turn.",
            waiting,
        );
        counter(
            out,
            "larder_fetches_delayed_total",
            "Fetches that had to wait for their turn.",
            self.edge.hydration.delayed.get(),
        );
        counter(
            out,
            "larder_fetches_refused_total",
            "Fetches not made because too many waited.",
            self.edge.hydration.refused.get(),
        );
        counter(
            out,
            "larder_remembered_keys_displaced_total",
            "Keys that were forgotten before their time for want of room.",
            cache.outcomes.displaced.get(),
        );
        counter(
            out,
            "larder_waiters_refused_total",
            "Requests refused because too many waited for the same fetch.",
            metrics.waiters_refused.get(),
        );
        let name = "larder_hit_for_miss_total";
        out.counters(
            name,
            "Requests that waited for no other because what their key brought was not for sharing.",
        );
        for site in self.edge.sites.table().sites() {
            out.sample(name, &[("site", &site.name)], site.metrics.beside.get());
        }
    }

    fn connections(&self, out: &mut Exposition) {
        let metrics = &self.edge.metrics;
        counter(
            out,
            "larder_connections_total",
            "Connections accepted.",
            metrics.connections.get(),
        );
        counter(
            out,
            "larder_connections_timed_out_total",
            "Connections closed because their client was too slow.",
            metrics.connections_timed_out.get(),
        );
        for (name, help, count) in [
            (
                "larder_tls_handshake_failures_total",
                "TLS handshakes that failed.",
                &metrics.tls_failures,
            ),
            (
                "larder_http2_connections_total",
                "Connections over HTTP/2.",
                &metrics.http2_connections,
            ),
            (
                "larder_http2_floods_total",
                "Connections over HTTP/2 closed because their client flooded them.",
                &metrics.http2_floods,
            ),
            (
                "larder_http2_streams_timed_out_total",
                "Streams reset because their client did not take what was sent.",
                &metrics.http2_streams_timed_out,
            ),
        ] {
            counter(out, name, help, count.get());
        }
        counter(
            out,
            "larder_accept_errors_total",
            "Connections that could not be accepted.",
            metrics.accept_errors.get(),
        );
        out.gauges("larder_connections", "Open connections.");
        out.sample("larder_connections", &[], self.open_connections());
    }

    fn purges(&self, out: &mut Exposition) {
        let cache = &self.edge.cache;
        let name = "larder_purges_total";
        out.counters(
            name,
            "Purges, by what they named; one by several counts for each.",
        );
        for (kind, count) in cache.receipts.purges() {
            out.sample(name, &[("kind", kind.as_str())], count);
        }
        let name = "larder_purged_entries_total";
        out.counters(
            name,
            "Entries that purges removed (hard) or made stale (soft).",
        );
        let (removed, softened) = cache.receipts.entries();
        out.sample(name, &[("effect", "hard")], removed);
        out.sample(name, &[("effect", "soft")], softened);
        let name = "larder_purges_unsettled";
        out.gauges(
            name,
            "Purges in force whose entries below memory are not counted yet.",
        );
        let unsettled = cache.receipts.unsettled();
        out.sample(name, &[], u64::try_from(unsettled).unwrap_or(u64::MAX));
        let name = "larder_purges_remembered_tags";
        out.gauges(
            name,
            "Tags whose latest purge is remembered for fetches under way.",
        );
        let remembered = cache.flights.purges.remembered();
        out.sample(name, &[], u64::try_from(remembered).unwrap_or(u64::MAX));
        let mut under_way = UnderWay::default();
        for domain in self.edge.sites.table().domains() {
            under_way += domain.purges_under_way();
        }
        let name = "larder_purges_under_way";
        out.gauges(
            name,
            "Purges that are in force in memory and have still to be carried out there.",
        );
        out.sample(name, &[], under_way.purges);
        let name = "larder_purge_places_left";
        out.gauges(
            name,
            "Places in memory that purges under way have still to look at.",
        );
        out.sample(name, &[], under_way.places);
        counter(
            out,
            "larder_tags_refused_total",
            "Responses not stored because they have too many or too long tags.",
            self.edge.metrics.tags_refused.get(),
        );
    }

    fn artefacts(&self, out: &mut Exposition) {
        let counts = self.library.artefact_counts();
        let name = "larder_artefacts_total";
        out.counters(name, "Compiled policies, by what became of them.");
        for (outcome, count) in [
            ("loaded", &counts.loaded),
            ("rejected", &counts.rejected),
            ("compiled", &counts.compiled),
            ("write_failed", &counts.write_failures),
        ] {
            out.sample(name, &[("outcome", outcome)], count.get());
        }
    }
}

fn counter(out: &mut Exposition, name: &str, help: &str, value: u64) {
    out.counters(name, help);
    out.sample(name, &[], value);
}
