//! What each site has in a stripe: entries, and the bytes they are charged.
//!
//! Most that come and go in a row are of one site, so what the latest one has is kept beside the
//! table of the others: a put and an eviction seldom look a site up.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use crate::entry::SiteId;

/// Passes a number through: those of sites are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct HashIsKey(u64);

impl BuildHasher for HashIsKey {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

impl Hasher for HashIsKey {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Entries, and the bytes they are charged.
pub(super) type Tally = (u64, u64);

/// See the module's documentation. A site that has nothing is not held.
#[derive(Debug)]
pub(super) struct Sites {
    latest: SiteId,
    /// What the latest has, perhaps nothing. It has no place among the others.
    tally: Tally,
    others: HashMap<SiteId, Tally, HashIsKey>,
}

impl Default for Sites {
    fn default() -> Self {
        Self {
            latest: SiteId(0),
            tally: (0, 0),
            others: HashMap::default(),
        }
    }
}

impl Sites {
    /// An entry of `site` came, charged `bytes`.
    #[inline]
    pub(super) fn join(&mut self, site: SiteId, bytes: u64) {
        let tally = self.of(site);
        tally.0 = tally.0.saturating_add(1);
        tally.1 = tally.1.saturating_add(bytes);
    }

    /// An entry of `site` left, charged `bytes`.
    #[inline]
    pub(super) fn leave(&mut self, site: SiteId, bytes: u64) {
        let tally = self.of(site);
        tally.0 = tally.0.saturating_sub(1);
        tally.1 = tally.1.saturating_sub(bytes);
    }

    /// What `site` has.
    pub(super) fn get(&self, site: SiteId) -> Tally {
        match self.latest == site {
            true => self.tally,
            false => self.others.get(&site).copied().unwrap_or_default(),
        }
    }

    #[inline]
    fn of(&mut self, site: SiteId) -> &mut Tally {
        if self.latest != site {
            let tally = self.others.remove(&site).unwrap_or_default();
            let (latest, tally) = (
                std::mem::replace(&mut self.latest, site),
                std::mem::replace(&mut self.tally, tally),
            );
            if tally != (0, 0) {
                self.others.insert(latest, tally);
            }
        }
        &mut self.tally
    }

    /// Every site that has something, and what.
    #[cfg(test)]
    pub(super) fn all(&self) -> HashMap<SiteId, Tally> {
        let latest = (self.tally != (0, 0)).then_some((self.latest, self.tally));
        let others = self.others.iter().map(|(site, tally)| (*site, *tally));
        others.chain(latest).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_site_has_what_came_and_did_not_leave(
            steps in prop::collection::vec((0_u64..4, 1_u64..100, any::<bool>()), 0..200),
        ) {
            let mut sites = Sites::default();
            let mut there: Vec<(u64, u64)> = Vec::new();
            for (site, bytes, comes) in steps {
                let leaver = there.iter().position(|(it, _)| *it == site);
                if let (false, Some(at)) = (comes, leaver) {
                    let (site, bytes) = there.swap_remove(at);
                    sites.leave(SiteId(site), bytes);
                } else {
                    there.push((site, bytes));
                    sites.join(SiteId(site), bytes);
                }
                let mut all: HashMap<SiteId, Tally> = HashMap::new();
                for (site, bytes) in &there {
                    let tally = all.entry(SiteId(*site)).or_default();
                    *tally = (tally.0 + 1, tally.1 + bytes);
                }
                for site in (0..5).map(SiteId) {
                    prop_assert_eq!(sites.get(site), all.get(&site).copied().unwrap_or_default());
                }
                prop_assert_eq!(sites.all(), all);
            }
        }
    }
}
