//! A memory tier, and runs of the fixture on it.

use std::sync::Arc;
use std::time::Duration;

use larder::cache::Cache;
use larder::cache::chain::Chain;
use larder::entry::SiteId;
use larder::program::{Grant, RunError};
use larder::tier::memory::{Domain, DomainSettings, Shards};
use serde_json::{Map, Value};

use crate::driver::program;

/// One site and its memory.
pub(crate) struct Rig {
    pub(crate) domain: Arc<Domain>,
    cache: Arc<Cache>,
}

/// A grant that no script here comes near to.
pub(crate) fn ample() -> Grant {
    Grant {
        site: "example".to_owned(),
        put_bytes: u64::MAX,
        deadline: Duration::from_mins(1),
        memory: 64 << 20,
    }
}

impl Rig {
    pub(crate) fn new(capacity: u64) -> Self {
        let domain = Domain::new(DomainSettings {
            name: "example".to_owned(),
            capacity,
            max_entries: 100_000,
            shards: Shards::Auto,
        });
        Self {
            domain: Arc::new(domain),
            cache: Arc::default(),
        }
    }

    pub(crate) fn chain(&self, site: u64) -> Chain {
        let memory = Some(Arc::clone(&self.domain));
        Chain::new(Arc::clone(&self.cache), SiteId(site), memory).expect("a runtime")
    }

    /// Runs `script` on the first site.
    pub(crate) fn run(&self, grant: &Grant, script: &[&str]) -> Result<String, RunError> {
        let mut params = Map::new();
        params.insert("script".to_owned(), Value::from(script));
        program().run(grant, self.chain(0), &params)
    }

    /// Runs the script of `expected`, whose lines are calls and what must come of them.
    #[track_caller]
    pub(crate) fn check(&self, expected: &[(&str, &str)]) {
        self.check_with(&ample(), expected);
    }

    /// The same, with a grant.
    #[track_caller]
    pub(crate) fn check_with(&self, grant: &Grant, expected: &[(&str, &str)]) {
        let script: Vec<&str> = expected.iter().map(|(call, _)| *call).collect();
        let transcript = self.run(grant, &script).expect("the script ran");
        let lines: Vec<String> = expected
            .iter()
            .map(|(call, outcome)| format!("{call} -> {outcome}"))
            .collect();
        assert_eq!(transcript.lines().collect::<Vec<_>>(), lines);
    }
}

/// What the fixture says of bytes `range` of the body it puts for `seed`.
pub(crate) fn bytes(seed: u64, range: std::ops::Range<u64>) -> String {
    format!(
        "{} bytes, hash {:016x}",
        range.end - range.start,
        hash(seed, range)
    )
}

/// The hash of bytes `range` of the fixture's pattern for `seed`, worked out independently.
pub(crate) fn hash(seed: u64, range: std::ops::Range<u64>) -> u64 {
    range.fold(0xcbf2_9ce4_8422_2325, |hash, at| {
        let byte = ((at ^ at >> 8 ^ at >> 16) + seed) & 0xff;
        (hash ^ byte).wrapping_mul(0x0100_0000_01b3)
    })
}
