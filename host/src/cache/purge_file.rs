//! What a purge log holds, byte for byte.
//!
//! ```text
//! "LARDERPL" version:u32 node:u64 crc:u32                    once
//! length:u64 sum:u32 crc:u32                                 twice: the tallies
//! length:u32 crc:u32 message                                 for each purge (postcard)
//! ```
//!
//! Numbers are little-endian, checksums CRC-32 of what they guard. A tally says how many bytes of
//! purges are on the device, and the checksum of all of them. It is written once they are, so a
//! crash can make it say less than there is and never more. The two are written in turn: if one is
//! torn the other holds, and of two that are whole the longer. Where there is less than it says, or
//! something else, purges are lost, and then everything that was stored before is taken for purged.
//! What lies behind it was acknowledged only as far as it is whole, for it was synced in order.
//!
//! Version 1 had no tallies. There anything behind the last whole purge but zeros tells that
//! purges may be lost, and a log that was cut between two of them looks whole.

use serde::{Deserialize, Serialize};

use super::Effect;
use super::purges::Mark;
use crate::clock;
use crate::entry::{SiteId, Tag};
use crate::little_endian::Fields;
use crate::tier::Selection;

const MAGIC: &[u8; 8] = b"LARDERPL";
/// The version that is written.
pub(super) const VERSION: u32 = 2;
/// The version without tallies.
const UNTALLIED: u32 = 1;
/// Bytes of what tells the file and the node.
const HEADER: usize = 24;
/// Bytes of a tally.
const TALLY: usize = 16;
/// Where the two tallies are.
pub(super) const TALLIES: [u64; 2] = [24, 40];
/// Where the purges begin.
pub(super) const FRAMES: u64 = 56;
/// Tags of one message. A purge of more is logged in several.
const TAGS_MAX: usize = 50_000;
/// By how much numbers jump where some may be lost: more than any log holds.
const GAP: u64 = 1 << 40;

/// What a log holds.
#[derive(Clone, Debug)]
pub(super) enum Logged {
    /// A purge.
    Purge(Mark, Effect, Selection),
    /// Purges up to this one may have been lost.
    Forgotten(Mark),
    /// A process began here. Numbers below that no purge before this has were given out, if at all,
    /// for purges that were never acknowledged and are not here.
    Began(Mark),
}

impl Logged {
    /// When it was.
    pub(super) fn mark(&self) -> Mark {
        let (Self::Purge(mark, ..) | Self::Forgotten(mark) | Self::Began(mark)) = self;
        *mark
    }
}

/// What a file is.
#[derive(Debug)]
pub(super) enum Found {
    /// The log of a node, oldest first.
    Log(u64, Vec<Logged>),
    /// It ends before it tells whose it is.
    Short,
    /// It is something else, or a later version wrote it.
    Foreign,
}

/// So many bytes of purges, and the checksum of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    length: u64,
    sum: u32,
}

impl Tally {
    /// Adds `bytes` to what it counts.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let mut sum = crc32fast::Hasher::new_with_initial(self.sum);
        sum.update(bytes);
        self.sum = sum.finalize();
        self.length += u64::try_from(bytes.len()).unwrap_or_default();
    }

    /// Where in the file they end.
    pub(super) fn end(&self) -> u64 {
        FRAMES.saturating_add(self.length)
    }

    /// As it is written.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TALLY);
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.sum.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let guarded = fields.rest().get(..TALLY - 4)?;
        let (length, sum, crc) = (fields.u64()?, fields.u32()?, fields.u32()?);
        (crc == crc32fast::hash(guarded)).then_some(Self { length, sum })
    }

    /// Whether what it counted is what `bytes` begin with.
    fn holds(self, bytes: &[u8]) -> bool {
        let length = usize::try_from(self.length).ok();
        let counted = length.and_then(|length| bytes.get(..length));
        counted.is_some_and(|counted| self.sum == crc32fast::hash(counted))
    }
}

/// What the file with `bytes` is.
pub(super) fn decode(bytes: &[u8]) -> Found {
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
        return match MAGIC.starts_with(bytes.get(..8).unwrap_or(bytes)) {
            true => Found::Short,
            false => Found::Foreign,
        };
    };
    let mut fields = Fields::new(header);
    let magic = fields.take(8);
    let (version, node, crc) = (fields.u32(), fields.u64(), fields.u32());
    let guarded = header.get(..HEADER - 4).unwrap_or_default();
    match (version, node) {
        _ if magic != Some(MAGIC) || crc != Some(crc32fast::hash(guarded)) => Found::Foreign,
        (Some(UNTALLIED), Some(node)) => Found::Log(node, untallied(rest)),
        (Some(VERSION), Some(node)) => Found::Log(node, tallied(rest)),
        _ => Found::Foreign,
    }
}

/// The purges in `bytes`, which begin with the tallies.
fn tallied(bytes: &[u8]) -> Vec<Logged> {
    // No crash takes part of them: they were there before the file had its name.
    let Some((tallies, bytes)) = bytes.split_at_checked(TALLIES.len() * TALLY) else {
        return vec![lost(&[])];
    };
    let tallies = tallies.chunks(TALLY).map(Fields::new);
    let tallies = tallies.filter_map(|mut fields| Tally::decode(&mut fields));
    let tally = tallies.max_by_key(|it| it.length);
    let (mut frames, rest) = whole(bytes);
    let held = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
    if !tally.is_some_and(|tally| tally.holds(held)) {
        frames.push(lost(&frames));
    } else if !rest.is_empty() {
        let bytes = rest.len();
        tracing::info!(bytes, "the purge log ends with what was never acknowledged");
    }
    frames
}

/// The purges in `bytes`, which a version without tallies wrote.
fn untallied(bytes: &[u8]) -> Vec<Logged> {
    let (mut frames, rest) = whole(bytes);
    // A crash of the machine leaves zeros where nothing was acknowledged.
    if rest.iter().any(|byte| *byte != 0) {
        frames.push(lost(&frames));
    }
    frames
}

/// The frames in `bytes` up to where they stop making sense, and what is left from there on.
fn whole(bytes: &[u8]) -> (Vec<Logged>, &[u8]) {
    let mut frames = Vec::new();
    let mut rest = bytes;
    let mut fields = Fields::new(bytes);
    while let Some(logged) = next(&mut fields) {
        frames.push(logged);
        rest = fields.rest();
    }
    (frames, rest)
}

/// A purge as it is logged.
#[derive(Serialize, Deserialize)]
struct Frame {
    number: u64,
    at: u64,
    /// 0 hard, 1 soft, 2 forgotten, 3 began.
    what: u8,
    all: bool,
    sites: Vec<u64>,
    tags: Vec<u64>,
}

/// That purges after `frames` are lost.
pub(super) fn lost(frames: &[Logged]) -> Logged {
    tracing::error!(
        purges = frames.len(),
        "the purge log is damaged; everything stored on slow tiers until now is taken for purged"
    );
    forgotten(frames)
}

/// That nobody knows what was purged after `frames`.
pub(super) fn forgotten(frames: &[Logged]) -> Logged {
    Logged::Forgotten(beyond(frames, GAP))
}

/// A number that is higher by `gap` than all in `frames`.
pub(super) fn beyond(frames: &[Logged], gap: u64) -> Mark {
    let latest = frames.iter().map(|logged| logged.mark().number).max();
    Mark {
        number: latest.unwrap_or_default().saturating_add(gap),
        at: clock::unix_millis(clock::wall()),
    }
}

/// The next frame, if it is whole.
fn next(fields: &mut Fields<'_>) -> Option<Logged> {
    let length = usize::try_from(fields.u32()?).ok()?;
    let crc = fields.u32()?;
    let message = fields.take(length)?;
    if crc != crc32fast::hash(message) {
        return None;
    }
    let (frame, rest) = postcard::take_from_bytes::<Frame>(message).ok()?;
    let mark = Mark {
        number: frame.number,
        at: frame.at,
    };
    let effect = match frame.what {
        0 => Effect::Hard,
        1 => Effect::Soft,
        2 => return Some(Logged::Forgotten(mark)),
        3 => return Some(Logged::Began(mark)),
        _ => return None,
    };
    let mut selection = Selection::of_tags(frame.tags.into_iter().map(Tag));
    selection.all = frame.all;
    selection.sites = frame.sites.into_iter().map(SiteId).collect();
    rest.is_empty()
        .then_some(Logged::Purge(mark, effect, selection))
}

/// A whole file of `node` with `frames`, and the tally of them.
pub(super) fn file(node: u64, frames: &[Logged]) -> (Vec<u8>, Tally) {
    let frames: Vec<u8> = frames.iter().flat_map(encode).collect();
    let mut tally = Tally::default();
    tally.add(&frames);
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&node.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    for _ in TALLIES {
        bytes.extend(tally.encode());
    }
    bytes.extend(frames);
    (bytes, tally)
}

/// `logged` as it is written.
pub(super) fn encode(logged: &Logged) -> Vec<u8> {
    let nothing = Selection::default();
    let (mark, what, selection) = match logged {
        Logged::Purge(mark, Effect::Soft, selection) => (mark, 1, selection),
        Logged::Purge(mark, Effect::Hard | Effect::None, selection) => (mark, 0, selection),
        Logged::Forgotten(mark) => (mark, 2, &nothing),
        Logged::Began(mark) => (mark, 3, &nothing),
    };
    let mut lots = selection.tags().chunks(TAGS_MAX);
    let mut bytes = Vec::new();
    // At least one, also of a purge without tags.
    let mut lot = lots.next().unwrap_or_default();
    loop {
        let frame = Frame {
            number: mark.number,
            at: mark.at,
            what,
            all: selection.all,
            sites: selection.sites.iter().map(|site| site.0).collect(),
            tags: lot.iter().map(|tag| tag.0).collect(),
        };
        // A struct of numbers and lists always encodes.
        let message = postcard::to_stdvec(&frame).unwrap_or_default();
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&message).to_le_bytes());
        bytes.extend_from_slice(&message);
        match lots.next() {
            Some(next) => lot = next,
            None => return bytes,
        }
    }
}
