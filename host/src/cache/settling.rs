//! Settling receipts: one walk over what lies below memory counts what each purge covered there,
//! and drops what none may find again.
//!
//! The walk runs on a thread of its own, which begins when a receipt waits and ends when none does.
//! Purges that are made meanwhile share the next walk. It rests for as long as it worked, so a
//! device keeps most of its time for lookups, however often something is purged.
//!
//! An entry counts for every purge that found it still valid: for none after the first that removed
//! it. What moves within its tier during the walk may be missed, or counted twice if it stays.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;

use super::lower::{Lower, Member};
use super::purges::Purges;
use super::receipts::{Receipts, Unsettled};
use super::{Cache, Effect};
use crate::clock;
use crate::entry::KeyHasher;
use crate::tier::Purged;
use crate::tier::envelope::Envelope;
use crate::tier::slow::{Cursor, Drops, Health, Unavailable};

/// About how many entries are looked at without a rest.
const PAGE: usize = 256;
/// How often a page is tried that cannot be read.
const TRIES: usize = 3;
/// How long is waited for what was on its way into a tier when the purge was made.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// How often a tier is looked at that still finds out what it holds, and the least rest after a
/// page that could not be read.
const POLL: Duration = Duration::from_millis(50);

/// Walks for receipts until all have settled.
struct Walker {
    lower: Arc<Lower>,
    purges: Arc<Purges>,
    receipts: Arc<Receipts>,
    hasher: KeyHasher,
}

/// What one walk counts for.
#[derive(Clone)]
struct Round {
    purges: Arc<Purges>,
    hasher: KeyHasher,
    /// The oldest purge first.
    waiting: Arc<[Arc<Unsettled>]>,
    /// Whether one of them only counts, which nothing remembers.
    any_dry: bool,
}

/// Whether anything in a tier can be counted.
pub(super) fn can_count(member: &Member) -> bool {
    let drops: Drops = Arc::new(|_| false);
    // A future that is not polled does nothing.
    member.tier.sweep(Cursor::default(), 0, &drops).is_some()
}

impl Cache {
    /// Sees to it that the receipts that have not settled do so.
    pub(super) fn settle_receipts(&self) {
        if !self.receipts.begin() {
            return;
        }
        let walker = Walker {
            lower: Arc::clone(&self.lower),
            purges: Arc::clone(&self.flights.purges),
            receipts: Arc::clone(&self.receipts),
            hasher: self.hasher.clone(),
        };
        let thread = std::thread::Builder::new().name("larder-settle".to_owned());
        if let Err(error) = thread.spawn(move || walker.walk()) {
            tracing::error!(%error, "purges are in force, and not counted below memory");
            self.receipts.give_up(&self.lower.names());
        }
    }
}

/// Lets another walk begin if this one ends by a panic.
struct UnderWay<'a>(&'a Receipts);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broke_off();
        }
    }
}

impl Walker {
    /// Blocks.
    fn walk(&self) {
        let _under_way = UnderWay(&self.receipts);
        match Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(async {
                tokio::select! {
                    () = self.rounds() => {}
                    () = self.receipts.stopped() => {}
                }
            }),
            Err(error) => {
                tracing::error!(%error, "purges are in force, and not counted below memory");
                self.receipts.give_up(&self.lower.names());
            }
        }
    }

    async fn rounds(&self) {
        while let Some(waiting) = self.receipts.next_walk() {
            let began = clock::instant();
            let round = Round {
                purges: Arc::clone(&self.purges),
                hasher: self.hasher.clone(),
                any_dry: waiting.iter().any(|each| each.effect == Effect::None),
                waiting: waiting.into(),
            };
            let mut counted = vec![Purged::default(); round.waiting.len()];
            let mut failed = Vec::new();
            for member in self.lower.members() {
                if !can_count(member) {
                    continue;
                }
                self.lower.arrived(member, ON_ITS_WAY).await;
                if let Err(error) = round.count(member, &mut counted).await {
                    let tier = member.tier.name();
                    tracing::warn!(tier, %error, "what purges covered is not counted");
                    failed.push(tier);
                }
            }
            for (unsettled, below) in round.waiting.iter().zip(counted) {
                self.receipts.settle(unsettled, below, &failed);
            }
            tokio::time::sleep(began.elapsed()).await;
        }
    }
}

impl Round {
    /// Goes through all that `member` holds, and adds what each purge covered to `counted`.
    async fn count(&self, member: &Member, counted: &mut [Purged]) -> Result<(), Unavailable> {
        while member.tier.health() == Health::Loading {
            tokio::time::sleep(POLL).await;
        }
        let this = self.clone();
        let drops: Drops = Arc::new(move |envelope| this.removes(envelope));
        let (mut cursor, mut tries) = (Cursor::default(), 0);
        loop {
            let began = clock::instant();
            let Some(page) = member.tier.sweep(cursor, PAGE, &drops) else {
                return Ok(());
            };
            let page = match tokio::time::timeout(member.deadline, page).await {
                Ok(Ok(page)) => page,
                failed => {
                    tries += 1;
                    let error = failed.map_or(Some(Unavailable::TimedOut), Result::err);
                    match error {
                        Some(error) if tries >= TRIES || error == Unavailable::Offline => {
                            return Err(error);
                        }
                        _ => tokio::time::sleep(began.elapsed().max(POLL)).await,
                    }
                    continue;
                }
            };
            tries = 0;
            for envelope in &page.entries {
                let hash = self.hasher.key(&envelope.key).hash;
                for (position, unsettled) in self.covering(envelope) {
                    if let Some(purged) = counted.get_mut(position)
                        && !unsettled.was_in_memory(hash)
                    {
                        *purged += Purged {
                            entries: 1,
                            bytes: envelope.length,
                        };
                    }
                }
            }
            let Some(next) = page.next else {
                return Ok(());
            };
            cursor = next;
            tokio::time::sleep(began.elapsed()).await;
        }
    }

    /// Whether one of the purges removes what `envelope` describes.
    fn removes(&self, envelope: &Envelope) -> bool {
        let mut covering = self.covering(envelope);
        covering.any(|(_, unsettled)| unsettled.effect == Effect::Hard)
    }

    /// The purges that found what `envelope` describes valid, and cover it.
    fn covering(&self, envelope: &Envelope) -> impl Iterator<Item = (usize, &Unsettled)> {
        let (born, site) = (envelope.born, envelope.site);
        // What has the primary key does not carry the tag of it.
        let own = self.hasher.key_tag(site, self.hasher.key(&envelope.key));
        let tags = move || envelope.tags.iter().copied().chain([own]);
        let (removed, covered) = self.purges.since(&born, site, tags());
        let waiting = match covered || self.any_dry {
            true => &self.waiting[..],
            false => &[],
        };
        let came_later = move |unsettled: &Unsettled| match unsettled.effect {
            // It counts what there was, so what was fetched before it.
            Effect::None => {
                let number = born.node != self.purges.node() || born.purge <= unsettled.mark.number;
                number && born.at <= unsettled.mark.at
            }
            Effect::Hard | Effect::Soft => self.purges.is_later(unsettled.mark, &born),
        };
        let was_removed = move |unsettled: &Unsettled| {
            let number = unsettled.mark.number;
            removed.is_some_and(|removed| match unsettled.effect {
                Effect::None => removed.number <= number,
                Effect::Hard | Effect::Soft => removed.number < number,
            })
        };
        let mut gone = false;
        waiting
            .iter()
            .enumerate()
            .filter_map(move |(position, unsettled)| {
                let covers = !gone
                    && came_later(unsettled)
                    && !was_removed(unsettled)
                    && unsettled.selection.covers(site, tags());
                gone |= covers && unsettled.effect == Effect::Hard;
                covers.then_some((position, &**unsettled))
            })
    }
}

#[cfg(test)]
mod tests;
