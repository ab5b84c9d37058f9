//! Opening a tier: what of the directory is used, and what is made anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::directory::{Contents, Directory, OpenError, Stored};
use super::format::{CHUNK, Identity, SUPERBLOCK, long};
use super::segment::Segment;
use super::{SEGMENT_MIN, SEGMENTS_MIN, SLACK, Settings, segments_in};

/// Bytes of a segment, by default one part in 32 of the tier.
const SEGMENT_PART: u64 = 32;
/// Segments below which those of another length are made anew.
const SEGMENTS_FEW: usize = 8;
/// Bytes of a segment, at most.
const SEGMENT_MAX: u64 = 64 << 20;

/// What there is to start with.
pub(super) struct Found {
    /// Of the tier.
    pub(super) identity: Identity,
    /// The segments.
    pub(super) files: BTreeMap<u32, Arc<std::fs::File>>,
    /// Those that hold something, oldest first.
    pub(super) segments: Vec<Arc<Segment>>,
    /// Segments of a lower ordinal are older than one that is lost.
    pub(super) doubted: u64,
    /// The highest ordinal that there was.
    pub(super) ordinal: u64,
}

impl Found {
    /// Makes `contents` such as `settings` want them.
    pub(super) fn settle(
        directory: &Directory,
        contents: Contents,
        settings: &Settings,
    ) -> Result<Self, OpenError> {
        let failed = |doing| {
            move |source| OpenError::Io {
                path: settings.dir.clone(),
                doing,
                source,
            }
        };
        let Contents {
            identity,
            has_manifest,
            segments,
        } = contents;
        directory.tidy().map_err(failed("tidying up"))?;
        let capacity = settings.capacity;
        let wanted = segment_bytes(capacity);
        let suits = |identity: &Identity| {
            let bytes = identity.segment_bytes;
            let count = segments_in(capacity, bytes);
            bytes == wanted || (SEGMENTS_FEW..1 << 20).contains(&count)
        };
        let known = identity.as_ref().filter(|identity| suits(identity));
        let mut stored: Vec<Stored> = Vec::new();
        let identity = match known {
            Some(known) => {
                stored = segments;
                known.clone()
            }
            None => {
                if identity.is_some() {
                    tracing::warn!(
                        capacity,
                        "the segments of the disk tier do not suit its capacity; it starts empty"
                    );
                }
                for segment in segments {
                    let removed = directory.remove(segment.number, &segment.file);
                    removed.map_err(failed("removing a segment"))?;
                }
                Identity::new(wanted)
            }
        };
        if !has_manifest || known.is_none() {
            let written = directory.write_manifest(&identity);
            written.map_err(failed("writing the manifest"))?;
        }
        Self::fit(directory, stored, &identity, capacity)
            .map_err(failed("fitting the segments"))?
            .enough(directory, settings, identity)
    }

    /// Removes what is beyond `capacity`: what holds nothing first, then the oldest.
    fn fit(
        directory: &Directory,
        mut stored: Vec<Stored>,
        identity: &Identity,
        capacity: u64,
    ) -> std::io::Result<Fitted> {
        let ordinal = |stored: &Stored| stored.superblock.as_ref().map_or(0, |s| s.ordinal);
        stored.sort_by_key(ordinal);
        let limit = segments_in(capacity, identity.segment_bytes);
        let surplus = stored.len().saturating_sub(limit);
        for segment in stored.drain(..surplus) {
            directory.remove(segment.number, &segment.file)?;
        }
        let mut kept = Vec::new();
        for segment in stored {
            let length = segment.file.metadata()?.len();
            if length == identity.segment_bytes {
                kept.push(segment);
            } else {
                // A crash while it was made; the log makes it again.
                directory.remove(segment.number, &segment.file)?;
            }
        }
        Ok(Fitted(kept))
    }
}

struct Fitted(Vec<Stored>);

/// The first ordinal behind the last segment that is missing of those with these `ordinals`, in
/// order; zero if none is. A life follows on the one before, and they end in that order.
fn behind_gap(ordinals: &[u64]) -> u64 {
    let mut pairs = ordinals.windows(2).filter_map(|pair| match pair {
        [before, after] => (before.saturating_add(1) != *after).then_some(*after),
        _ => None,
    });
    pairs.next_back().unwrap_or_default()
}

impl Fitted {
    /// Whether there is room for a tier at all, and the rest of it.
    fn enough(
        self,
        directory: &Directory,
        settings: &Settings,
        identity: Identity,
    ) -> Result<Found, OpenError> {
        let segment = identity.segment_bytes;
        let free = directory.free().map_err(|source| OpenError::Io {
            path: settings.dir.clone(),
            doing: "asking for the free space",
            source,
        })?;
        let has = long(self.0.len());
        let room = has + free / (segment + SLACK);
        let least = long(SEGMENTS_MIN);
        if room < least {
            return Err(OpenError::NoSpace {
                path: settings.dir.clone(),
                free,
                least: (least - has) * (segment + SLACK),
            });
        }
        let limit = long(segments_in(settings.capacity, segment));
        if room < limit {
            tracing::warn!(
                capacity = settings.capacity,
                fits = room * segment,
                "the file system has no room for all of the disk tier; it takes what there is"
            );
        }
        let life = |stored: &Stored| {
            let superblock = stored.superblock.as_ref()?;
            let life = (superblock.ordinal, superblock.nonce);
            let file = Arc::clone(&stored.file);
            Some(Arc::new(Segment::new(
                stored.number,
                life,
                file,
                SUPERBLOCK,
            )))
        };
        let segments: Vec<Arc<Segment>> = self.0.iter().filter_map(life).collect();
        let ordinals: Vec<u64> = segments.iter().map(|segment| segment.ordinal).collect();
        let newest = ordinals.last().copied().unwrap_or_default();
        let is_lost = self.0.iter().any(|stored| stored.is_lost) && newest > 0;
        // The one that is lost may have been the last: what comes next leaves a gap, so that this
        // is still known at the next start.
        let (doubted, ordinal) = match is_lost {
            true => (newest + 1, newest + 1),
            false => (behind_gap(&ordinals), newest),
        };
        if doubted > 0 {
            tracing::warn!(
                "a segment of the disk tier is lost; what is older is validated before it is used, \
                 since it may have been replaced there"
            );
        }
        Ok(Found {
            segments,
            doubted,
            ordinal,
            files: self.0.into_iter().map(|s| (s.number, s.file)).collect(),
            identity,
        })
    }
}

/// Bytes of a segment of a new tier of `capacity`.
fn segment_bytes(capacity: u64) -> u64 {
    let part = (capacity / SEGMENT_PART).clamp(SEGMENT_MIN, SEGMENT_MAX);
    part - part % CHUNK
}

#[cfg(test)]
mod tests {
    use super::behind_gap;

    #[test]
    fn a_gap_is_where_an_ordinal_is_missing() {
        for (ordinals, expected) in [
            (&[][..], 0),
            (&[9], 0),
            (&[3, 4, 5], 0),
            (&[3, 5, 6], 5),
            (&[3, 5, 8, 9], 8),
            (&[3, 4, 9], 9),
        ] {
            assert_eq!(behind_gap(ordinals), expected, "{ordinals:?}");
        }
    }
}
