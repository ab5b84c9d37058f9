//! The tiers below memory, fastest first: looked through when memory has nothing, and written to
//! after memory.
//!
//! The first verified hit wins, and the tiers after it are not asked. What a tier holds is worth
//! nothing until the purges since its fetch were asked: a purge is in force here at once, however
//! many entries it covers, because every entry says when it was born. A tier that fails is no miss
//! and no failure of a request: the next one is asked, and the failure is counted.

use std::sync::Arc;
use std::time::Duration;

use super::purges::{Purges, Standing};
use super::recalls::{Recalls, Turn};
use tokio::sync::watch;

use crate::clock;
use crate::entry::{Entry, KeyHasher, KeyView, StoredBody};
use crate::metrics::Counter;
use crate::tier::envelope::{Born, Envelope, Kind};
use crate::tier::slow::{Found, FoundBody, SlowTier, Written};

/// The tiers below memory.
#[derive(Debug, Default)]
pub struct Lower {
    tiers: Vec<Member>,
    purges: Arc<Purges>,
    recalls: Recalls<Option<Recalled>>,
    /// Entries that memory was given from below.
    pub promoted: Counter,
    pending: Arc<watch::Sender<usize>>,
}

/// Work on the tiers that is to be waited for when they settle.
#[derive(Debug)]
#[must_use = "dropping it says that the work is done"]
pub struct Pending(Arc<watch::Sender<usize>>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.send_modify(|pending| *pending -= 1);
    }
}

/// One of them, and what was asked of it. `lookups` is the sum of `hits`, `misses` and `errors`.
#[derive(Debug)]
pub struct Member {
    /// The tier.
    pub tier: Arc<dyn SlowTier>,
    /// How long a lookup may take before the next tier, or the origin, is asked.
    pub deadline: Duration,
    /// What was asked of it.
    pub counts: Counts,
}

/// What was asked of one tier.
#[derive(Debug, Default)]
pub struct Counts {
    /// Lookups that found something usable.
    pub hits: Counter,
    /// Lookups that found nothing, or nothing that a purge has left.
    pub misses: Counter,
    /// Lookups that failed or took too long.
    pub errors: Counter,
    /// Entries that it took.
    pub writes: Counter,
    /// Entries that it could not take.
    pub write_failures: Counter,
    /// Of `writes`, those that came from a slower tier.
    pub backfills: Counter,
}

/// An entry that a slow tier held.
#[derive(Clone, Debug)]
pub struct Recalled {
    /// The entry. It may be stale.
    pub entry: Arc<Entry>,
    /// When it was fetched.
    pub born: Born,
    /// The tier that held it.
    pub tier: &'static str,
    /// Its position among the tiers below memory.
    position: usize,
}

impl Lower {
    /// `tiers`, fastest first, whose entries `purges` may cover.
    pub fn new(
        tiers: impl IntoIterator<Item = (Arc<dyn SlowTier>, Duration)>,
        purges: Arc<Purges>,
    ) -> Self {
        let member = |(tier, deadline)| Member {
            tier,
            deadline,
            counts: Counts::default(),
        };
        Self {
            tiers: tiers.into_iter().map(member).collect(),
            purges,
            recalls: Recalls::default(),
            promoted: Counter::default(),
            pending: Arc::default(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// The tiers, in order.
    pub fn members(&self) -> &[Member] {
        &self.tiers
    }

    /// Lookups under way.
    pub fn looking(&self) -> usize {
        self.recalls.len()
    }

    /// What the first tier that has it holds under `key`. At most one lookup for a key is under way.
    ///
    /// # Cancel safety
    /// May be dropped; another who waits for the same then looks.
    pub async fn recall(&self, hasher: &KeyHasher, key: KeyView<'_>) -> Option<Recalled> {
        if !self.tiers.iter().any(|member| member.tier.may_hold(key)) {
            self.tiers
                .iter()
                .for_each(|member| member.counts.misses.increment());
            return None;
        }
        loop {
            match self.recalls.take(key) {
                Turn::Look(looking) => {
                    let found = self.look(hasher, key).await;
                    looking.found(found.clone());
                    return found;
                }
                Turn::Wait(waiting) => {
                    if let Some(found) = waiting.answer().await {
                        return found;
                    }
                }
            }
        }
    }

    async fn look(&self, hasher: &KeyHasher, key: KeyView<'_>) -> Option<Recalled> {
        for (position, member) in self.tiers.iter().enumerate() {
            if !member.tier.may_hold(key) {
                member.counts.misses.increment();
                continue;
            }
            let looked = tokio::time::timeout(member.deadline, member.tier.get(key)).await;
            let found = match looked {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    member.counts.errors.increment();
                    tracing::debug!(tier = member.tier.name(), %error, "a lookup failed");
                    continue;
                }
                Err(_) => {
                    member.counts.errors.increment();
                    continue;
                }
            };
            let Some(found) = found.and_then(|found| self.standing(found)) else {
                member.counts.misses.increment();
                continue;
            };
            member.counts.hits.increment();
            let born = found.envelope.born;
            let body = match found.body {
                FoundBody::Whole(bytes) => StoredBody::new(vec![bytes]),
                FoundBody::Kept(content) => StoredBody::kept(content),
            };
            return Some(Recalled {
                entry: Arc::new(found.envelope.into_entry(hasher, body)),
                born,
                tier: member.tier.name(),
                position,
            });
        }
        None
    }

    /// What purges leave of `found`.
    fn standing(&self, mut found: Found) -> Option<Found> {
        let Envelope {
            born, site, tags, ..
        } = &found.envelope;
        match self.purges.standing(born, *site, tags) {
            Standing::Valid => Some(found),
            Standing::Purged => None,
            Standing::Softened(at) => {
                if let Kind::Response(head) = &mut found.envelope.kind {
                    let ago = clock::unix_millis(clock::wall()).saturating_sub(at);
                    let age = head.lifetime.age(clock::now());
                    let then = age.saturating_sub(Duration::from_millis(ago));
                    head.lifetime.fresh_for = head.lifetime.fresh_for.min(then);
                }
                Some(found)
            }
        }
    }

    /// Whether a purge later than number `since` covers `entry`.
    pub fn is_purged_since(&self, since: u64, entry: &Entry) -> bool {
        let tags = entry.tags.iter().copied();
        self.purges.cover_since(since, entry.site, tags)
    }

    /// Whether a tier faster than the one that held `recalled` is still to be given it.
    pub fn wants(&self, recalled: &Recalled) -> bool {
        self.tiers
            .iter()
            .take(recalled.position)
            .any(|member| member.tier.is_writable())
    }

    /// Gives `recalled` to the tiers that are faster than the one that held it.
    pub async fn fill(&self, recalled: &Recalled) {
        for member in self.tiers.iter().take(recalled.position) {
            let written = member.write(&recalled.entry, recalled.born).await;
            if written == Some(Written::Accepted) {
                member.counts.backfills.increment();
            }
        }
    }

    /// Gives `entry` to every tier that takes writes. Whether none of them failed.
    pub async fn store(&self, entry: &Arc<Entry>, born: Born) -> bool {
        let mut sound = true;
        for member in &self.tiers {
            let written = member.write(entry, born).await;
            sound &= !written.is_some_and(Written::is_failure);
        }
        sound
    }

    /// Has every tier forget what is under `key`.
    pub fn remove(&self, key: KeyView<'_>) {
        for member in &self.tiers {
            member.tier.remove(key);
        }
    }

    /// Counts as work under way until it is dropped.
    pub fn pending(&self) -> Pending {
        self.pending.send_modify(|pending| *pending += 1);
        Pending(Arc::clone(&self.pending))
    }

    /// Waits until what was stored before is where it should be, or given up.
    pub async fn settle(&self) {
        let mut pending = self.pending.subscribe();
        // The sender is held here, so there is an answer.
        drop(pending.wait_for(|pending| *pending == 0).await);
        for member in &self.tiers {
            member.tier.settle().await;
        }
    }

    /// Stops every tier. Blocks for a bounded time.
    pub fn stop(&self) {
        for member in &self.tiers {
            member.tier.stop();
        }
    }
}

impl Member {
    /// Gives it `entry`, and counts what comes of that. None if the tier takes no writes.
    pub async fn write(&self, entry: &Arc<Entry>, born: Born) -> Option<Written> {
        if !self.tier.is_writable() {
            return None;
        }
        let written = self.tier.put(entry, born).await;
        match written {
            Written::Accepted => self.counts.writes.increment(),
            Written::Unneeded | Written::TooLarge => {}
            Written::Full | Written::Unavailable => self.counts.write_failures.increment(),
        }
        Some(written)
    }
}

#[cfg(test)]
mod tests;
