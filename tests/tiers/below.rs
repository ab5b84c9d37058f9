//! Edges with each kind of tier below memory.

use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;

/// What lies below memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    Disk,
    Store,
    Both,
}

pub(crate) const ALL: [Below; 3] = [Below::Disk, Below::Store, Below::Both];

impl Below {
    /// Its tiers, by name.
    pub(crate) const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Disk => &["disk"],
            Self::Store => &["object_store"],
            Self::Both => &["disk", "object_store"],
        }
    }

    /// An edge before `origin` with these tiers, which outlast it.
    pub(crate) fn setup(self, origin: &Origin) -> Setup {
        self.of(Setup::before(origin))
    }

    /// The same of another setup.
    pub(crate) fn of(self, setup: Setup) -> Setup {
        let setup = setup.keeping();
        let store = format!("file://{}", setup.path("store").display());
        match self {
            Self::Disk => setup.flag("--disk", "64MiB"),
            Self::Store => setup.flag("--object-store", &store),
            Self::Both => setup.flag("--disk", "64MiB").flag("--object-store", &store),
        }
    }
}

/// One count of one tier in `/v1/stats`.
#[track_caller]
pub(crate) fn count(edge: &Edge, tier: &str, name: &str) -> u64 {
    let stats = edge.stats();
    let tiers = stats.get("tiers").and_then(|tiers| tiers.as_array());
    let named = |each: &&serde_json::Value| each.get("name").is_some_and(|name| name == tier);
    let found = tiers.expect("a list").iter().find(named);
    let found = found.unwrap_or_else(|| panic!("no tier {tier}: {stats}"));
    let value = found.get(name).and_then(serde_json::Value::as_u64);
    value.unwrap_or_else(|| panic!("no {name}: {found}"))
}

/// Restarts `edge`, so that its memory is empty, after everything was written.
pub(crate) fn forget(edge: &mut Edge) {
    edge.flush();
    restart(edge);
}

/// Restarts `edge`, and waits until its tiers know again what they hold: until then they serve what
/// they know already.
pub(crate) fn restart(edge: &mut Edge) {
    edge.restart();
    eventually("the tiers to be loaded", || {
        let stats = edge.stats();
        let tiers = stats.get("tiers").and_then(|tiers| tiers.as_array());
        let loading =
            |tier: &serde_json::Value| tier.get("state").is_some_and(|it| it == "loading");
        !tiers.expect("a list").iter().any(loading)
    });
}
