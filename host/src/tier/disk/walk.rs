//! Going through everything that is stored: to list it, and to verify it.
//!
//! Both go from the oldest segment to the youngest, through what the index still points to. What is
//! stored, moved or reclaimed meanwhile may be missed or seen twice; nothing is blocked by it.

use std::sync::Arc;
use std::time::Duration;

use super::format::{FooterEntry, HEADER, RecordHeader, UNIT, long, short};
use super::index::{Found as Located, Hash, Hour, Place};
use super::lookup::Read;
use super::readers::NotRead;
use super::reclaim::place_of;
use super::segment::Segment;
use super::{DiskTier, Shared};
use crate::clock;
use crate::entry::Unreadable;
use crate::tier::envelope::Envelope;
use crate::tier::found::FoundBody;
use crate::tier::slow::{Cursor, Drops, Page, Scrubbed, Unavailable};

impl DiskTier {
    /// At most `limit` of what is stored, from `cursor` on; fewer if reading takes long. The first
    /// cursor is the default one.
    ///
    /// # Errors
    /// The tier is stopped, or the device did not answer in time.
    pub async fn list(&self, cursor: Cursor, limit: usize) -> Result<Page, Unavailable> {
        let shared = Arc::clone(&self.shared);
        let keeps: Drops = Arc::new(|_| false);
        let read = move || shared.page(cursor, limit, &keeps);
        self.shared.readers.run(read).await.map_err(unavailable)
    }

    /// The same, and what `drops` says so of cannot be found any more.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn sweep(
        &self,
        cursor: Cursor,
        limit: usize,
        drops: Drops,
    ) -> Result<Page, Unavailable> {
        let shared = Arc::clone(&self.shared);
        let read = move || shared.page(cursor, limit, &drops);
        self.shared.readers.run(read).await.map_err(unavailable)
    }

    /// Reads everything that is stored, at most `bytes_per_second` of it, verifies it to the last
    /// byte, and drops what is damaged and what a purge covers.
    ///
    /// # Errors
    /// The tier is stopped, or the device did not answer in time.
    pub async fn scrub(&self, bytes_per_second: u64) -> Result<Scrubbed, Unavailable> {
        let began = tokio::time::Instant::now();
        let mut scrubbed = Scrubbed::default();
        for segment in self.shared.segments.all() {
            let (shared, of) = (Arc::clone(&self.shared), Arc::clone(&segment));
            let entries = self
                .shared
                .readers
                .run(move || shared.entries_of(&of).unwrap_or_default());
            for entry in entries.await.map_err(unavailable)? {
                let located = Located {
                    place: place_of(segment.number, &entry),
                    expires: Hour(entry.expires),
                    hits: 0,
                };
                if self.shared.is_at(&entry, located.place) {
                    self.scrub_entry(&segment, &entry, located, &mut scrubbed)
                        .await?;
                    let millis = scrubbed.bytes.saturating_mul(1_000) / bytes_per_second.max(1);
                    tokio::time::sleep_until(began + Duration::from_millis(millis)).await;
                }
            }
        }
        Ok(scrubbed)
    }

    async fn scrub_entry(
        &self,
        segment: &Arc<Segment>,
        entry: &FooterEntry,
        located: Located,
        scrubbed: &mut Scrubbed,
    ) -> Result<(), Unavailable> {
        let hash = Hash::of(entry.hash);
        let (shared, of) = (Arc::clone(&self.shared), Arc::clone(segment));
        let read = self
            .shared
            .readers
            .run(move || shared.read_at(hash, located, &of, None));
        let found = match read.await.map_err(unavailable)? {
            Read::Found(found) => *found,
            Read::Damaged => {
                self.shared.drop_damaged(hash, located.place);
                scrubbed.damaged += 1;
                return Ok(());
            }
            Read::Failed(reason) => return Err(Unavailable::Failed(reason)),
            Read::Nothing | Read::Moved | Read::Incomplete => return Ok(()),
        };
        if !(self.shared.valid)(&found.envelope) {
            if self.shared.index.remove_at(hash, located.place) {
                self.shared.stats.evicted.purged.increment();
                scrubbed.purged += 1;
            }
            return Ok(());
        }
        match digest_of(&found.body).await {
            Ok(digest) if digest == found.envelope.digest => {
                scrubbed.entries += 1;
                scrubbed.bytes += found.envelope.length;
            }
            Ok(_) | Err(Unreadable::Damaged) => {
                self.shared.drop_damaged(hash, located.place);
                scrubbed.damaged += 1;
            }
            // It was reclaimed meanwhile.
            Err(Unreadable::Gone) => {}
            Err(Unreadable::TimedOut) => return Err(Unavailable::TimedOut),
            Err(Unreadable::Failed) => return Err(Unavailable::Failed("read".to_owned())),
        }
        Ok(())
    }
}

async fn digest_of(body: &FoundBody) -> Result<[u8; 32], Unreadable> {
    let kept = match body {
        FoundBody::Whole(bytes) => return Ok(*blake3::hash(bytes).as_bytes()),
        FoundBody::Kept(kept) => kept,
    };
    let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
    while at < kept.len() {
        let bytes = kept.read(at).await?;
        at += long(bytes.len());
        hasher.update(&bytes);
    }
    Ok(*hasher.finalize().as_bytes())
}

fn unavailable(why: NotRead) -> Unavailable {
    match why {
        NotRead::Stopped => Unavailable::Offline,
        NotRead::TimedOut | NotRead::Busy => Unavailable::TimedOut,
    }
}

impl Shared {
    /// Whether the index points to `place` for `entry`.
    fn is_at(&self, entry: &FooterEntry, place: Place) -> bool {
        let found = self.index.get(Hash::of(entry.hash));
        found.is_some_and(|found| found.place == place)
    }

    /// Blocks.
    fn page(&self, cursor: Cursor, limit: usize, drops: &Drops) -> Page {
        // The ordinal of a segment, and the first unit in it that was not looked at.
        let Cursor(ordinal, unit) = cursor;
        let until = clock::instant() + self.readers.deadline() / 2;
        let mut entries = Vec::new();
        for segment in self.segments.all() {
            if segment.ordinal < ordinal {
                continue;
            }
            for entry in self.entries_of(&segment).unwrap_or_default() {
                if segment.ordinal == ordinal && entry.place < unit {
                    continue;
                }
                if entries.len() >= limit || clock::instant() >= until {
                    return Page {
                        entries,
                        next: Some(Cursor(segment.ordinal, entry.place)),
                    };
                }
                let place = place_of(segment.number, &entry);
                if !self.is_at(&entry, place) {
                    continue;
                }
                let Some(envelope) = self.envelope_at(&segment, &entry) else {
                    continue;
                };
                if drops(&envelope) {
                    // Only what lies here: something newer may have come.
                    if !self.index.remove_at(Hash::of(entry.hash), place) {
                        continue;
                    }
                    self.stats.evicted.purged.increment();
                }
                entries.push(envelope);
            }
        }
        Page {
            entries,
            next: None,
        }
    }

    /// The envelope of a record, verified. Blocks.
    fn envelope_at(&self, segment: &Segment, entry: &FooterEntry) -> Option<Envelope> {
        let at = u64::from(entry.place) * UNIT;
        let mut head = vec![0; short(HEADER)];
        self.io.read(&segment.file, &mut head, at).ok()?;
        let header = RecordHeader::decode(&head)?;
        let mut guarded = vec![0; short(header.content_at() - HEADER)];
        let there = self.io.read(&segment.file, &mut guarded, at + HEADER);
        there.ok()?;
        let sound = crc32fast::hash(&guarded) == header.meta_crc && header.nonce == segment.nonce;
        let meta = guarded.get(..short(u64::from(header.meta)))?;
        let envelope = sound.then(|| Envelope::decode(meta).ok())??;
        (!segment.is_gone()).then_some(envelope)
    }
}
