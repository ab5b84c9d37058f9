//! Black-box tests of the HTTP front: the real program between real sockets, one file a feature.

#[path = "../support.rs"]
mod support;

mod bad_input;
mod budget;
mod collapse;
mod compression;
mod conditional;
mod connections;
mod failures;
mod fields;
mod framing;
mod freshness;
mod http1;
mod http1_abuse;
mod http2;
mod http2_limits;
mod large;
mod methods;
mod offline;
mod origin_errors;
mod origin_framing;
mod origin_http2;
mod origin_tls;
mod origins;
mod outage;
mod process;
mod purge;
mod purge_forms;
mod purge_races;
mod purge_soft;
mod ranges;
mod ranges_partial;
mod rfc9111;
mod side_by_side;
mod stale;
mod status_ttl;
mod store;
mod tags;
mod tls;
mod validation;
mod vary;
