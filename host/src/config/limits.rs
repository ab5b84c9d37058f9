//! The section `[limits]`: every bound on what a client, an origin or a policy may take.
//!
//! Every bound has a default, so that none is ever absent; `rules.rs` keeps each in its range.

use serde::Deserialize;

use super::number::{ByteSize, Count, TimeSpan};

/// Bounds on requests, on waiting, and on policies. Times that may not be zero say so by their
/// range; a day is the longest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of request line and fields together; more is answered 431. 8KiB to 1MiB,
    /// default 64KiB.
    pub request_head: ByteSize,
    /// Bytes of the request target; more is answered 414. 64B to `request_head`, default 8KiB.
    pub target: ByteSize,
    /// Number of request fields; more is answered 431. 1 to 1000, default 100.
    pub request_fields: Count,
    /// Bytes of a request body; more is answered 413. Bodies are streamed, so this bounds no
    /// memory. Any size, default 1GiB.
    pub request_body: ByteSize,
    /// Client connections at once; further ones wait to be accepted. 1 to 4294967295. Default
    /// (unset): four fifths of the open-file limit.
    pub connections: Option<Count>,
    /// Requests that wait for one fetch that another one has started; further ones are answered
    /// 503. 1 to 4294967295. Default (unset): no bound.
    pub waiters: Option<Count>,
    /// Fetches that ask origins at once; further ones wait their turn, those of clients before
    /// validations in the background. One origin has at most three quarters of them. 1 to
    /// 4294967295, default 2048.
    pub fetches: Count,
    /// Time to connect to an origin; then 504. 1ms to 1d, default 5s.
    pub connect: TimeSpan,
    /// Time from the request sent until the head of the origin's response; then 504. 1ms to 1d,
    /// default 30s.
    pub first_byte: TimeSpan,
    /// Longest pause within an origin's response body; then the fill fails. 1ms to 1d, default
    /// 30s.
    pub origin_idle: TimeSpan,
    /// Time for a client to send a request head, from its first byte. 1ms to 1d, default 10s.
    pub head: TimeSpan,
    /// Longest time a client's connection may rest between requests, or within a body without
    /// taking or giving a byte. 1ms to 1d, default 60s.
    pub client_idle: TimeSpan,
    /// Time that requests in flight get to end after SIGTERM. 0s to 1d, default 30s.
    pub drain: TimeSpan,
    /// Bytes of a policy to upload; more is answered 413. 1KiB to 64MiB, default 1MiB.
    pub policy_upload: ByteSize,
    /// Running time of one policy call, or of one batch of eviction events; then the host's own
    /// rule answers. 1ms to 1s, default 5ms.
    pub policy_deadline: TimeSpan,
    /// Memory of one instance of a keying or freshness policy. 128KiB to 64MiB, default 2MiB.
    pub policy_memory: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_head: ByteSize::kib(64),
            target: ByteSize::kib(8),
            request_fields: Count::new(100),
            request_body: ByteSize::mib(1024),
            connections: None,
            waiters: None,
            fetches: Count::new(2048),
            connect: TimeSpan::seconds(5),
            first_byte: TimeSpan::seconds(30),
            origin_idle: TimeSpan::seconds(30),
            head: TimeSpan::seconds(10),
            client_idle: TimeSpan::seconds(60),
            drain: TimeSpan::seconds(30),
            policy_upload: ByteSize::mib(1),
            policy_deadline: TimeSpan::millis(5),
            policy_memory: ByteSize::mib(2),
        }
    }
}
