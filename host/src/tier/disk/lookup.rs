//! Lookups: from the index to a verified record.

use std::sync::Arc;

use bytes::Bytes;

use super::content::{DiskContent, Layout};
use super::format::{Record, RecordKind, UNIT, long, short};
use super::index::{Found as Located, Hash, Place};
use super::readers::NotRead;
use super::segment::Segment;
use super::{DiskTier, Shared};
use crate::clock;
use crate::entry::{KeyView, Unreadable};
use crate::tier::envelope::{Envelope, Undecodable};
use crate::tier::found::{Found, FoundBody};
use crate::tier::slow::Unavailable;

/// How often a lookup follows an entry that was moved meanwhile.
const MOVES: usize = 4;
/// Bytes that are copied out of the memory of the system on the thread of the lookup, at most: no
/// more than are copied into a socket at once. A record with content of 256 KiB and its head fit.
pub(super) const CACHED_MAX: u64 = 320 << 10;
/// Bytes that a read which waits for a thread holds already, at most: 1,024 may wait.
const KEPT_MAX: u64 = 32 << 10;
/// Content is copied out of what was read, so that it holds no memory beside its own, if what is
/// beside it is more than one part in this many.
const WASTE_PART: usize = 16;

/// What a read came to.
pub(super) enum Read {
    /// What is stored under the key.
    Found(Box<Found>),
    /// A record of another key with the same hash, or one that is of no use.
    Nothing,
    /// The record is not there any more: the index knows better.
    Moved,
    /// It is not what was written.
    Damaged,
    /// Part of its content was overwritten or lost.
    Incomplete,
    /// The device failed.
    Failed(String),
}

impl DiskTier {
    /// False if certainly nothing can be found under `key`. Answers from memory.
    pub fn may_hold(&self, key: KeyView<'_>) -> bool {
        let hash = self.shared.hash(key.bytes);
        self.shared.index.get(hash).is_some_and(is_of_use)
    }

    /// What is stored under `key`, verified. Content of up to 256 KiB comes whole.
    ///
    /// # Errors
    /// The tier is stopped, the device failed, or it did not answer in time.
    pub async fn get(&self, key: KeyView<'_>) -> Result<Option<Found>, Unavailable> {
        let shared = &self.shared;
        let hash = shared.hash(key.bytes);
        for _ in 0..MOVES {
            if shared.condition.is_offline() {
                return Err(Unavailable::Offline);
            }
            let Some(located) = shared.index.hit(hash).filter(|found| is_of_use(*found)) else {
                return Ok(None);
            };
            let place = located.place;
            let Some(segment) = shared.segments.get(place.segment) else {
                shared.index.remove_at(hash, place);
                continue;
            };
            let here = shared.read_here(hash, located, &segment, key.bytes);
            let read = match here.await {
                Ok(read) => Ok(read),
                Err(buffer) => {
                    let (reader, key) = (Arc::clone(shared), Box::<[u8]>::from(key.bytes));
                    let read =
                        move || reader.read_into(buffer, hash, located, &segment, Some(&key));
                    shared.readers.run(read).await
                }
            };
            match read {
                Ok(Read::Found(found)) => return Ok(Some(*found)),
                Ok(Read::Nothing) => return Ok(None),
                Ok(Read::Moved) => {}
                Ok(Read::Damaged) => {
                    shared.drop_damaged(hash, place);
                    return Ok(None);
                }
                Ok(Read::Incomplete) => {
                    // While it loads, what is missing may only not be known yet.
                    if !shared.loading.is_under_way() && shared.index.remove_at(hash, place) {
                        shared.stats.evicted.incomplete.increment();
                    }
                    return Ok(None);
                }
                // It stays: what the origin answers instead takes its place.
                Ok(Read::Failed(reason)) => return Err(Unavailable::Failed(reason)),
                Err(NotRead::Stopped) => return Err(Unavailable::Offline),
                Err(NotRead::TimedOut | NotRead::Busy) => {
                    shared.stats.timeouts.increment();
                    return Err(Unavailable::TimedOut);
                }
            }
        }
        Ok(None)
    }
}

/// Whether it is a response, or points to one, whose time is not over.
fn is_of_use(found: Located) -> bool {
    let now = || clock::unix_millis(clock::wall());
    found.place.kind != RecordKind::Tombstone
        && (found.expires.0 == 0 || !found.expires.is_over(now()))
}

impl Shared {
    /// What lies at `place` is not what was written.
    pub(super) fn drop_damaged(&self, hash: Hash, place: Place) {
        self.stats.corrupt.increment();
        if self.index.remove_at(hash, place) {
            self.stats.evicted.damaged.increment();
        }
    }

    /// Reads what `located` says that there is in `segment`, under `key`, without a thread, if the
    /// system has it in memory or the device soon brings it. Otherwise it gives the buffer back.
    async fn read_here(
        self: &Arc<Self>,
        hash: Hash,
        located: Located,
        segment: &Segment,
        key: &[u8],
    ) -> Result<Read, Vec<u8>> {
        match self.read_cached(hash, located, segment, key) {
            Ok(read) => Ok(read),
            Err(buffer) => self.read_soon(buffer, hash, located, segment, key).await,
        }
    }

    /// The same, of what the system has in memory only. Otherwise it gives the buffer back for who
    /// waits for the device, which has begun to read by then: the system asks it for what it does
    /// not have.
    fn read_cached(
        self: &Arc<Self>,
        hash: Hash,
        located: Located,
        segment: &Segment,
        key: &[u8],
    ) -> Result<Read, Vec<u8>> {
        let (at, length) = bounds(located.place);
        if length > CACHED_MAX || at + length > segment.end() {
            return Err(Vec::new());
        }
        let buffer = vec![0; short(length)];
        let read = self.read_again(buffer, hash, located, segment, key);
        read.map_err(|buffer| match length <= KEPT_MAX {
            true => buffer,
            false => Vec::new(),
        })
    }

    /// The same, in a `buffer` of the length of the record.
    fn read_again(
        self: &Arc<Self>,
        mut buffer: Vec<u8>,
        hash: Hash,
        located: Located,
        segment: &Segment,
        key: &[u8],
    ) -> Result<Read, Vec<u8>> {
        let (at, _) = bounds(located.place);
        if !self.io.read_cached(&segment.file, &mut buffer, at) {
            return Err(buffer);
        }
        let read = self.record_in(buffer, hash, located, segment, Some(key));
        Ok(self.still(hash, located, segment, read))
    }

    /// The same, of what the system has asked the device for, if the device soon answers. Others on
    /// the thread have their turns meanwhile.
    async fn read_soon(
        self: &Arc<Self>,
        mut buffer: Vec<u8>,
        hash: Hash,
        located: Located,
        segment: &Segment,
        key: &[u8],
    ) -> Result<Read, Vec<u8>> {
        if buffer.is_empty() {
            return Err(buffer);
        }
        let Some(wait) = self.patience.begin() else {
            return Err(buffer);
        };
        loop {
            tokio::task::yield_now().await;
            // Asked before the last look, which may come late.
            let over = wait.is_over();
            match self.read_again(buffer, hash, located, segment, key) {
                Ok(read) => {
                    self.condition.has_read();
                    self.stats.awaited.increment();
                    wait.end(true);
                    return Ok(read);
                }
                Err(unread) => buffer = unread,
            }
            if over {
                self.stats.awaited_in_vain.increment();
                wait.end(false);
                return Err(buffer);
            }
        }
    }

    /// Reads what `located` says that there is in `segment`, under `key` if one is given. Blocks.
    pub(super) fn read_at(
        self: &Arc<Self>,
        hash: Hash,
        located: Located,
        segment: &Segment,
        key: Option<&[u8]>,
    ) -> Read {
        self.read_into(Vec::new(), hash, located, segment, key)
    }

    /// The same, in `buffer`, which is of the length of the record or empty. Blocks.
    fn read_into(
        self: &Arc<Self>,
        mut buffer: Vec<u8>,
        hash: Hash,
        located: Located,
        segment: &Segment,
        key: Option<&[u8]>,
    ) -> Read {
        let (at, length) = bounds(located.place);
        let read = if at + length > segment.end() {
            Read::Damaged
        } else {
            buffer.resize(short(length), 0);
            match self.io.read(&segment.file, &mut buffer, at) {
                Ok(()) => {
                    self.condition.has_read();
                    self.record_in(buffer, hash, located, segment, key)
                }
                Err(error) => {
                    self.failed_to_read(&error);
                    Read::Failed(error.to_string())
                }
            }
        };
        self.still(hash, located, segment, read)
    }

    /// What a `read` in `segment` says, unless what is there has changed before or since.
    fn still(&self, hash: Hash, located: Located, segment: &Segment, read: Read) -> Read {
        // The segment may have begun another life.
        let there = || self.index.get(hash).map(|found| found.place);
        match read {
            Read::Found(_) if !segment.is_gone() => read,
            Read::Failed(_) | Read::Damaged | Read::Incomplete | Read::Nothing
                if there() == Some(located.place) && segment.is_live() =>
            {
                read
            }
            _ => Read::Moved,
        }
    }

    /// The record that `bytes` of `segment` hold, if it is the one that `located` says.
    fn record_in(
        self: &Arc<Self>,
        bytes: Vec<u8>,
        hash: Hash,
        located: Located,
        segment: &Segment,
        key: Option<&[u8]>,
    ) -> Read {
        let place = located.place;
        self.stats.bytes_read.add(long(bytes.len()));
        let Ok(record) = Record::verify(&bytes) else {
            return Read::Damaged;
        };
        let header = record.header;
        let itself = header.nonce == segment.nonce
            && header.place == place.unit
            && header.units == place.units
            && header.kind == place.kind;
        if !itself {
            return Read::Damaged;
        }
        let mut envelope = match Envelope::decode(record.meta) {
            Ok(envelope) => envelope,
            Err(Undecodable::Malformed) => return Read::Damaged,
            Err(Undecodable::Version(_) | Undecodable::Future) => return Read::Nothing,
        };
        if self.is_doubted(segment) {
            envelope.doubt();
        }
        if key.is_some_and(|key| envelope.key.as_ref() != key) {
            return Read::Nothing;
        }
        let body = if header.kind == RecordKind::Parent {
            match self.content_of((hash, place), &envelope, record.content) {
                Ok(content) => FoundBody::Kept(content),
                Err(Unreadable::Gone) => return Read::Incomplete,
                Err(_) => return Read::Damaged,
            }
        } else if long(record.content.len()) == envelope.length {
            let content = short(header.content_at());
            let content = content..content + record.content.len();
            FoundBody::Whole(cut_out(bytes, content))
        } else {
            return Read::Damaged;
        };
        Read::Found(Box::new(Found { envelope, body }))
    }

    /// The content that lies where `table` says.
    fn content_of(
        self: &Arc<Self>,
        parent: (Hash, Place),
        envelope: &Envelope,
        table: &[u8],
    ) -> Result<Arc<DiskContent>, Unreadable> {
        let layout = self.layout_in(table)?;
        if layout.length != envelope.length {
            return Err(Unreadable::Damaged);
        }
        let content = DiskContent::pin(Arc::clone(self), layout, envelope.digest, parent);
        content.map(Arc::new).ok_or(Unreadable::Gone)
    }

    /// Where the content lies that the `table` of a parent tells of.
    pub(super) fn layout_in(&self, table: &[u8]) -> Result<Layout, Unreadable> {
        Layout::decode(table, |number, nonce| {
            let segment = self.segments.get(number);
            segment.filter(|segment| segment.nonce == nonce)
        })
    }

    /// Counts a failure to read.
    pub(super) fn failed_to_read(&self, error: &std::io::Error) {
        self.stats.read_errors.increment();
        self.condition.failed_to_read(error);
    }
}

/// Where `place` begins in its segment, and how long it is.
fn bounds(place: Place) -> (u64, u64) {
    (u64::from(place.unit) * UNIT, u64::from(place.units) * UNIT)
}

/// The part `content` of `bytes`, without the rest unless that is little.
fn cut_out(bytes: Vec<u8>, content: std::ops::Range<usize>) -> Bytes {
    let waste = bytes.len() - content.len();
    if waste > content.len() / WASTE_PART {
        return Bytes::copy_from_slice(bytes.get(content).unwrap_or_default());
    }
    Bytes::from(bytes).slice(content)
}
