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
use super::settling::can_count;
use super::stores::StoreOutcome;
use super::succession::{Stage, Succeeding, Succession};
use bytes::Bytes;
use tokio::sync::watch;

use crate::clock;
use crate::entry::{Entry, KeyHasher, KeyView};
use crate::metrics::{Counter, Histogram};
use crate::tier::envelope::{Born, Envelope, Kind};
use crate::tier::found::Found;
use crate::tier::slow::{SlowTier, Writer, Written};

/// Hits read a clock that is some milliseconds behind, and must not find fresh what a purge has just
/// made stale.
const CLOCKS_DIFFER: Duration = Duration::from_millis(20);

/// The tiers below memory.
#[derive(Debug, Default)]
pub struct Lower {
    tiers: Vec<Member>,
    purges: Arc<Purges>,
    recalls: Recalls<Option<Recalled>>,
    succession: Arc<Succession>,
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
    /// How long the `hits` took.
    pub hit_time: Histogram,
    /// How long the `misses` took: nothing, where the tier knew without being asked.
    pub miss_time: Histogram,
    /// How long the `errors` took.
    pub error_time: Histogram,
}

impl Counts {
    fn hit(&self, took: Duration) {
        self.hits.increment();
        self.hit_time.observe(took);
    }

    fn miss(&self, took: Duration) {
        self.misses.increment();
        self.miss_time.observe(took);
    }

    fn error(&self, took: Duration) {
        self.errors.increment();
        self.error_time.observe(took);
    }
}

/// Content on its way into a tier.
#[derive(Debug)]
pub struct LowerWriter {
    position: usize,
    tier: &'static str,
    writer: Box<dyn Writer>,
}

impl LowerWriter {
    /// Takes the next bytes, once there is room. False: the tier has given up.
    pub async fn push(&mut self, piece: Bytes) -> bool {
        self.writer.push(piece).await
    }

    /// The tier that takes it.
    pub fn tier(&self) -> &'static str {
        self.tier
    }
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
    /// How far the succession was when it was looked for.
    stage: Stage,
    /// The number of the latest purge when it was looked for: by the request that has it, or by one
    /// before it whose lookup that joined.
    purge: u64,
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
            succession: Arc::default(),
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

    /// The names of those of which something can be counted.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let counted = self.tiers.iter().filter(|member| can_count(member));
        counted.map(|member| member.tier.name()).collect()
    }

    /// Lookups under way.
    pub fn looking(&self) -> usize {
        self.recalls.len()
    }

    /// Says, before memory or any tier is given something new under `key`, that it will be; until
    /// the answer is dropped nothing is found there. None if there are no tiers.
    pub fn announce(&self, key: KeyView<'_>) -> Option<Succeeding> {
        (!self.is_empty()).then(|| self.succession.announce(key))
    }

    /// Whether nothing newer than `recalled` was announced since it was looked for.
    pub fn is_latest(&self, recalled: &Recalled) -> bool {
        let key = recalled.entry.key.view();
        self.succession.is_still(recalled.stage, key)
    }

    /// Whether `recalled` may be used still: nothing newer was announced since it was looked for, and
    /// no purge came that covers it.
    pub fn stands(&self, recalled: &Recalled) -> bool {
        !self.is_purged_since(recalled.purge, &recalled.entry) && self.is_latest(recalled)
    }

    /// What the first tier that has it holds under `key`. At most one lookup for a key is under way.
    /// Nothing, while a tier may hold something that has a successor.
    ///
    /// # Cancel safety
    /// May be dropped; another who waits for the same then looks.
    pub async fn recall(&self, hasher: &KeyHasher, key: KeyView<'_>) -> Option<Recalled> {
        let stage = self.succession.stage(key);
        let may_hold = self.tiers.iter().any(|member| member.tier.may_hold(key));
        let Some(stage) = stage.filter(|_| may_hold) else {
            self.tiers
                .iter()
                .for_each(|member| member.counts.miss(Duration::ZERO));
            return None;
        };
        let found = loop {
            match self.recalls.take(key) {
                Turn::Look(looking) => {
                    let found = self.look(hasher, key, stage).await;
                    looking.found(found.clone());
                    break found;
                }
                Turn::Wait(waiting) => {
                    if let Some(found) = waiting.answer().await {
                        break found;
                    }
                }
            }
        };
        found.filter(|found| self.is_latest(found))
    }

    async fn look(&self, hasher: &KeyHasher, key: KeyView<'_>, stage: Stage) -> Option<Recalled> {
        let purge = self.purges.latest();
        for (position, member) in self.tiers.iter().enumerate() {
            if !member.tier.may_hold(key) {
                member.counts.miss(Duration::ZERO);
                continue;
            }
            let began = clock::instant();
            let looked = tokio::time::timeout(member.deadline, member.tier.get(key)).await;
            let took = began.elapsed();
            let found = match looked {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    member.counts.error(took);
                    tracing::debug!(tier = member.tier.name(), %error, "a lookup failed");
                    continue;
                }
                Err(_) => {
                    member.counts.error(took);
                    continue;
                }
            };
            let Some(found) = found.and_then(|found| self.standing(hasher, found)) else {
                member.counts.miss(took);
                continue;
            };
            member.counts.hit(took);
            let born = found.envelope.born;
            return Some(Recalled {
                entry: Arc::new(found.into_entry(hasher)),
                born,
                tier: member.tier.name(),
                position,
                stage,
                purge,
            });
        }
        None
    }

    /// What each tier holds under `key`, with its name; seen by no count.
    pub async fn holders(
        &self,
        hasher: &KeyHasher,
        key: KeyView<'_>,
    ) -> Vec<(&'static str, Arc<Entry>)> {
        let mut holders = Vec::new();
        for member in &self.tiers {
            let looked = tokio::time::timeout(member.deadline, member.tier.get(key)).await;
            if let Ok(Ok(Some(found))) = looked
                && let Some(found) = self.standing(hasher, found)
            {
                holders.push((member.tier.name(), Arc::new(found.into_entry(hasher))));
            }
        }
        holders
    }

    /// What purges leave of `found`.
    fn standing(&self, hasher: &KeyHasher, mut found: Found) -> Option<Found> {
        match self.purges.of(hasher, &found.envelope) {
            Standing::Valid => Some(found),
            Standing::Purged => None,
            Standing::Softened(at) => {
                if let Kind::Response(head) = &mut found.envelope.kind {
                    let ago = clock::unix_millis(clock::wall()).saturating_sub(at);
                    let age = head.lifetime.age(clock::now());
                    let then = age.saturating_sub(Duration::from_millis(ago) + CLOCKS_DIFFER);
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

    /// Gives `recalled` to the tiers that are faster than the one that held it, unless there is
    /// something newer.
    pub async fn fill(&self, recalled: &Recalled) {
        for member in self.tiers.iter().take(recalled.position) {
            if !self.is_latest(recalled) {
                return;
            }
            let written = member.write(&recalled.entry, recalled.born).await;
            if written == Some(Written::Accepted) {
                self.keep_if(self.is_latest(recalled), member, &recalled.entry);
                member.counts.backfills.increment();
            }
        }
    }

    /// Has `member` forget `entry`, which it was just given, unless it is `latest`: what is newer
    /// may have been there before it, and is lost with it.
    fn keep_if(&self, latest: bool, member: &Member, entry: &Entry) {
        if !latest && let Some(_succeeding) = self.announce(entry.key.view()) {
            member.tier.remove(entry.key.view());
        }
    }

    /// Gives `entry`, which was announced by `succeeding`, to every tier that takes writes, and adds
    /// to `outcome` what came of that. Where a tier has made it wait until something newer was
    /// announced, the others are not given it: they may have that already.
    pub async fn store(
        &self,
        entry: &Arc<Entry>,
        born: Born,
        outcome: &mut StoreOutcome,
        succeeding: Succeeding,
    ) {
        let latest = || succeeding.is_latest();
        self.give(&self.tiers, (entry, born), latest, outcome).await;
    }

    /// Gives an entry to `members` that take writes, and adds to `outcome` what came of that. Has
    /// them forget what is under its key as soon as it is not the `latest` any more.
    async fn give(
        &self,
        members: &[Member],
        (entry, born): (&Arc<Entry>, Born),
        latest: impl Fn() -> bool,
        outcome: &mut StoreOutcome,
    ) {
        for member in members {
            if latest()
                && let Some(written) = member.write(entry, born).await
            {
                outcome.add(member.tier.name(), written);
            }
            self.keep_if(latest(), member, entry);
        }
    }

    /// Begins to store content under `key` while it arrives that memory does not take, in the
    /// fastest tier that takes it. None if none does.
    pub fn writer(&self, key: KeyView<'_>, length: Option<u64>) -> Option<LowerWriter> {
        let offers = |(position, member): (usize, &Member)| {
            let writable = member.tier.is_writable();
            let writer = writable
                .then(|| member.tier.writer(key, length))
                .flatten()?;
            let tier = member.tier.name();
            Some(LowerWriter {
                position,
                tier,
                writer,
            })
        };
        self.tiers.iter().enumerate().find_map(offers)
    }

    /// Stores what `written` has taken under `envelope`, and gives it to the tiers that are slower
    /// than the one that took it, as long as it `stands`. Adds to `outcome` what came of that.
    pub async fn commit(
        &self,
        written: LowerWriter,
        (envelope, stands): (Envelope, impl Fn() -> bool),
        hasher: &KeyHasher,
        outcome: &mut StoreOutcome,
    ) {
        let Some(member) = self.tiers.get(written.position) else {
            return;
        };
        let (key, born) = (envelope.key.clone(), envelope.born);
        let succeeding = self.succession.announce(hasher.key(&key));
        let stored = written.writer.commit(envelope).await;
        member.count(stored);
        outcome.add(member.tier.name(), stored);
        let (stage, key) = (succeeding.stage(), hasher.key(&key));
        if stored != Written::Accepted || !stands() {
            // What any of them holds is older, or may have been overtaken by this.
            self.tiers.iter().for_each(|member| member.tier.remove(key));
            return;
        }
        // So is what faster ones hold, which have no room for it.
        let faster = self.tiers.iter().take(written.position);
        faster.for_each(|member| member.tier.remove(key));
        // Who has seen the end of it finds it, unless the device is far behind.
        let settled = tokio::time::timeout(member.deadline, member.tier.settle()).await;
        let slower = self.tiers.get(written.position.saturating_add(1)..);
        let slower = slower.unwrap_or_default();
        if slower.is_empty() {
            return;
        }
        // From where it lies: it never lay in memory as a whole.
        let found = match settled {
            Ok(()) => member.tier.get(key).await.ok().flatten(),
            Err(_) => None,
        };
        let Some(found) = found else {
            for member in slower {
                member.tier.remove(key);
            }
            return;
        };
        let entry = Arc::new(found.into_entry(hasher));
        let latest = || self.succession.is_still(stage, key);
        self.give(slower, (&entry, born), latest, outcome).await;
    }

    /// Has every tier forget what is under `key`.
    pub fn remove(&self, key: KeyView<'_>) {
        let _succeeding = self.announce(key);
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

    /// Waits until what is on its way into `member` now is there, or was given up, but no longer
    /// than `patience`.
    pub(super) async fn arrived(&self, member: &Member, patience: Duration) {
        let mut pending = self.pending.subscribe();
        // Where something new comes all the time there is always something pending.
        let handed = pending.wait_for(|pending| *pending == 0);
        drop(tokio::time::timeout(patience / 2, handed).await);
        drop(tokio::time::timeout(patience / 2, member.tier.settle()).await);
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
        self.count(written);
        Some(written)
    }

    fn count(&self, written: Written) {
        match written {
            Written::Accepted => self.counts.writes.increment(),
            Written::Unneeded | Written::TooLarge => {}
            Written::Full | Written::Unavailable => self.counts.write_failures.increment(),
        }
    }
}

#[cfg(test)]
mod tests;
