//! The bytes on the disk: superblocks, records, footers and the manifest.
//!
//! ```text
//! manifest   head | identity | crc                                    once a directory
//! segment    superblock (4 KiB) | record | record | ... | footer      to its fixed length
//! record     header (64 B) | meta | crc of each chunk | content | zeros to a multiple of 64 B
//! footer     entries | purge floors | trailer (64 B), which ends with the segment
//! ```
//!
//! Numbers are little-endian, checksums CRC-32 (IEEE) of what they guard. A segment is used again
//! and again: each of its lives has a random nonce, which stands in the superblock, in every
//! record and in the trailer, so that nothing of an earlier life passes for something of this one.
//! Decoding never panics, whatever the bytes are.

use crate::entry::Unreadable;
use crate::little_endian::Fields;

/// The version of the format that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;
/// What the length and the place of a record are multiples of.
pub(super) const UNIT: u64 = 64;
/// Bytes of content under one checksum.
pub(super) const CHUNK: u64 = 64 << 10;
/// Bytes before the first record of a segment.
pub(super) const SUPERBLOCK: u64 = 4 << 10;
/// Bytes of the header of a record.
pub(super) const HEADER: u64 = 64;
/// Bytes of the trailer of a segment.
pub(super) const TRAILER: u64 = 64;
/// Bytes of one entry in a footer.
pub(super) const FOOTER_ENTRY: u64 = 24;
/// Bytes of one purge floor in a footer.
pub(super) const FLOOR: u64 = 16;
/// Units of a record, at most: what a slot of the index can tell.
pub(super) const UNITS_MAX: u64 = (1 << 17) - 1;

const MANIFEST_MAGIC: &[u8] = b"LARDERDT";
const SUPERBLOCK_MAGIC: &[u8] = b"LARDERSG";
const TRAILER_MAGIC: &[u8; 8] = b"LARDERFT";
const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"LREC");
/// Magic, version and the checksum of both: the same in every version to come.
const HEAD: usize = 16;

/// What all files of one tier have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// A random number.
    pub store: u128,
    /// Bytes of every segment.
    pub segment_bytes: u64,
    /// What keys are hashed with.
    pub hash_key: [u8; 32],
}

/// What stands at the start of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head<T> {
    /// Sound, of this version.
    Known(T),
    /// Another version wrote it.
    Version(u32),
    /// Something else, or damaged.
    Unknown,
}

/// The start of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Of the tier.
    pub identity: Identity,
    /// The number of the segment, which its file is named by.
    pub number: u32,
    /// Rises with every life of every segment; zero for a segment that holds nothing.
    pub ordinal: u64,
    /// Of this life.
    pub nonce: u64,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// An envelope and its content.
    Whole,
    /// An envelope; its content is a table of the extents that hold the content of the response.
    Parent,
    /// Part of the content of a response.
    Extent,
    /// Nothing is stored under the key any more.
    Tombstone,
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    /// What it is.
    pub kind: RecordKind,
    /// The life of the segment that it was written in.
    pub nonce: u64,
    /// The keyed hash of the key, as the index has it; for an extent that of its parent.
    pub hash: u64,
    /// Where it stands in the segment, in units.
    pub place: u32,
    /// Its length, in units.
    pub units: u32,
    /// Bytes of meta.
    pub meta: u32,
    /// Bytes of content.
    pub content: u32,
    /// When it is of no use any more, as [`crate::tier::disk::index::Hour`].
    pub expires: u16,
    /// The checksum of meta and chunk table.
    pub meta_crc: u32,
}

/// What a footer says of one record. Extents are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FooterEntry {
    /// As in the header.
    pub hash: u64,
    /// As in the header.
    pub place: u32,
    /// As in the header.
    pub units: u32,
    /// As in the header.
    pub expires: u16,
    /// As in the header.
    pub kind: RecordKind,
}

/// The end of a segment that was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    /// The life that was sealed.
    pub nonce: u64,
    /// Its ordinal.
    pub ordinal: u64,
    /// Entries before it.
    pub entries: u32,
    /// Floors between entries and trailer.
    pub floors: u32,
    /// Where the records end.
    pub end: u64,
    /// The checksum of entries and floors.
    pub crc: u32,
}

/// `count` as a number in a file; what is longer than memory does not exist.
pub(super) fn long(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// `count` bytes of memory.
pub(super) fn short(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// `number` where the format has room for no more.
pub(super) fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Chunks of `content` bytes.
pub(super) const fn chunks(content: u64) -> u64 {
    content.div_ceil(CHUNK)
}

/// Bytes of a record with so much meta and content.
pub(super) const fn record_bytes(meta: u64, content: u64) -> u64 {
    let bytes = HEADER + meta + 4 * chunks(content) + content;
    bytes.next_multiple_of(UNIT)
}

/// The checksum at the end of `bytes` is right.
fn guarded(bytes: &[u8]) -> Option<&[u8]> {
    let (rest, crc) = bytes.split_last_chunk::<4>()?;
    (crc32fast::hash(rest) == u32::from_le_bytes(*crc)).then_some(rest)
}

fn guard(bytes: &mut Vec<u8>) {
    let crc = crc32fast::hash(bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

fn head(magic: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    guard(&mut bytes);
    bytes
}

/// What follows the head, if this version wrote it.
fn body<'a>(magic: &[u8], bytes: &'a [u8]) -> Head<&'a [u8]> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else {
        return Head::Unknown;
    };
    let version = guarded(head)
        .and_then(|head| head.strip_prefix(magic))
        .and_then(|version| version.try_into().ok())
        .map(u32::from_le_bytes);
    match version {
        Some(VERSION) => Head::Known(rest),
        Some(other) => Head::Version(other),
        None => Head::Unknown,
    }
}

impl Identity {
    const BYTES: usize = 56;
    /// Bytes of a manifest.
    pub(super) const MANIFEST: usize = HEAD + Self::BYTES + 4;

    fn extend(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.store.to_le_bytes());
        bytes.extend_from_slice(&self.segment_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.hash_key);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let identity = Self {
            store: u128::from_le_bytes(fields.array()?),
            segment_bytes: fields.u64()?,
            hash_key: fields.array()?,
        };
        let sound = (SUPERBLOCK..=1 << 26).contains(&identity.segment_bytes)
            && identity.segment_bytes.is_multiple_of(SUPERBLOCK);
        sound.then_some(identity)
    }

    /// The manifest.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = head(MANIFEST_MAGIC);
        self.extend(&mut bytes);
        guard(&mut bytes);
        bytes
    }

    /// What the manifest in `bytes` says.
    pub(super) fn decode(bytes: &[u8]) -> Head<Self> {
        match body(MANIFEST_MAGIC, bytes) {
            Head::Known(_) => {
                let whole = bytes.get(..Self::MANIFEST).and_then(guarded);
                let identity = whole
                    .and_then(|whole| whole.get(HEAD..))
                    .and_then(|rest| Self::read(&mut Fields::new(rest)));
                identity.map_or(Head::Unknown, Head::Known)
            }
            Head::Version(version) => Head::Version(version),
            Head::Unknown => Head::Unknown,
        }
    }
}

impl Superblock {
    /// Bytes that are read of a superblock; the rest is zeros.
    pub(super) const BYTES: usize = HEAD + Identity::BYTES + 20 + 4;

    /// The superblock, to its full length.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = head(SUPERBLOCK_MAGIC);
        self.identity.extend(&mut bytes);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.ordinal.to_le_bytes());
        bytes.extend_from_slice(&self.nonce.to_le_bytes());
        guard(&mut bytes);
        bytes.resize(short(SUPERBLOCK), 0);
        bytes
    }

    /// The superblock at the start of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Head<Self> {
        match body(SUPERBLOCK_MAGIC, bytes) {
            Head::Known(_) => {
                let whole = bytes.get(..Self::BYTES).and_then(guarded);
                let superblock = whole
                    .and_then(|whole| whole.get(HEAD..))
                    .and_then(|rest| Self::read(&mut Fields::new(rest)));
                superblock.map_or(Head::Unknown, Head::Known)
            }
            Head::Version(version) => Head::Version(version),
            Head::Unknown => Head::Unknown,
        }
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            identity: Identity::read(fields)?,
            number: fields.u32()?,
            ordinal: fields.u64()?,
            nonce: fields.u64()?,
        })
    }
}

impl RecordKind {
    const fn code(self) -> u8 {
        match self {
            Self::Whole => 1,
            Self::Parent => 2,
            Self::Extent => 3,
            Self::Tombstone => 4,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Whole),
            2 => Some(Self::Parent),
            3 => Some(Self::Extent),
            4 => Some(Self::Tombstone),
            _ => None,
        }
    }
}

impl RecordHeader {
    /// The header.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(short(HEADER));
        bytes.extend_from_slice(&RECORD_MAGIC.to_le_bytes());
        bytes.push(self.kind.code());
        bytes.push(0);
        bytes.extend_from_slice(&self.expires.to_le_bytes());
        for number in [self.nonce, self.hash] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [
            self.place,
            self.units,
            self.meta,
            self.content,
            self.meta_crc,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.resize(short(HEADER) - 4, 0);
        guard(&mut bytes);
        bytes
    }

    /// The header at the start of `bytes`, if it is sound and its lengths agree.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(guarded(bytes.get(..short(HEADER))?)?);
        let magic = fields.u32()?;
        let [kind, _] = fields.array()?;
        let expires = fields.u16()?;
        let header = Self {
            kind: RecordKind::of(kind)?,
            expires,
            nonce: fields.u64()?,
            hash: fields.u64()?,
            place: fields.u32()?,
            units: fields.u32()?,
            meta: fields.u32()?,
            content: fields.u32()?,
            meta_crc: fields.u32()?,
        };
        let agrees = header.bytes() == u64::from(header.units) * UNIT;
        (magic == RECORD_MAGIC && agrees).then_some(header)
    }

    /// Bytes of the record.
    pub(super) fn bytes(&self) -> u64 {
        record_bytes(u64::from(self.meta), u64::from(self.content))
    }

    /// Where the content begins in the record.
    pub(super) fn content_at(&self) -> u64 {
        HEADER + u64::from(self.meta) + 4 * chunks(u64::from(self.content))
    }
}

/// A record as it was read, with every checksum verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Its header.
    pub header: RecordHeader,
    /// The meta.
    pub meta: &'a [u8],
    /// The content.
    pub content: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the start of `bytes`.
    ///
    /// # Errors
    /// It is damaged, or none.
    pub(super) fn verify(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        Self::parse(bytes).ok_or(Unreadable::Damaged)
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = RecordHeader::decode(bytes)?;
        let bytes = bytes.get(..short(header.bytes()))?;
        let (head, rest) = bytes.split_at_checked(short(header.content_at()))?;
        let (_, guarded) = head.split_at_checked(short(HEADER))?;
        if crc32fast::hash(guarded) != header.meta_crc {
            return None;
        }
        let (meta, table) = guarded.split_at_checked(short(u64::from(header.meta)))?;
        let (content, padding) = rest.split_at_checked(short(u64::from(header.content)))?;
        let sound = chunks_match(content, table_of(table)) && padding.iter().all(|b| *b == 0);
        sound.then_some(Self {
            header,
            meta,
            content,
        })
    }
}

/// The checksums in a chunk table.
pub(super) fn table_of(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let (table, _) = bytes.as_chunks::<4>();
    table.iter().map(|crc| u32::from_le_bytes(*crc))
}

/// Whether each chunk of `content`, which begins with a chunk, has its checksum.
pub(super) fn chunks_match(content: &[u8], table: impl Iterator<Item = u32>) -> bool {
    content.chunks(short(CHUNK)).map(crc32fast::hash).eq(table)
}

impl FooterEntry {
    fn extend(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.hash.to_le_bytes());
        bytes.extend_from_slice(&self.place.to_le_bytes());
        bytes.extend_from_slice(&self.units.to_le_bytes());
        bytes.extend_from_slice(&self.expires.to_le_bytes());
        bytes.push(self.kind.code());
        bytes.resize(bytes.len() + 5, 0);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let (hash, place, units) = (fields.u64()?, fields.u32()?, fields.u32()?);
        let expires = fields.u16()?;
        let [kind] = fields.array()?;
        Some(Self {
            hash,
            place,
            units,
            expires,
            kind: RecordKind::of(kind)?,
        })
    }
}

/// Bytes of a footer.
pub(super) const fn footer_bytes(entries: u64, floors: u64) -> u64 {
    entries * FOOTER_ENTRY + floors * FLOOR + TRAILER
}

/// The footer of the life `nonce` and `ordinal`, whose records end at `end`.
pub(super) fn encode_footer(
    (nonce, ordinal): (u64, u64),
    end: u64,
    entries: &[FooterEntry],
    floors: &[(u64, u64)],
) -> Vec<u8> {
    let length = footer_bytes(long(entries.len()), long(floors.len()));
    let mut bytes = Vec::with_capacity(short(length));
    for entry in entries {
        entry.extend(&mut bytes);
    }
    for (node, purge) in floors {
        bytes.extend_from_slice(&node.to_le_bytes());
        bytes.extend_from_slice(&purge.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes);
    let mut trailer = TRAILER_MAGIC.to_vec();
    for number in [nonce, ordinal, end] {
        trailer.extend_from_slice(&number.to_le_bytes());
    }
    for number in [narrow(long(entries.len())), narrow(long(floors.len())), crc] {
        trailer.extend_from_slice(&number.to_le_bytes());
    }
    trailer.resize(short(TRAILER) - 4, 0);
    guard(&mut trailer);
    bytes.extend_from_slice(&trailer);
    bytes
}

impl Trailer {
    /// The trailer in `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(guarded(bytes.get(..short(TRAILER))?)?);
        let magic = fields.array::<8>()?;
        let (nonce, ordinal, end) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let trailer = Self {
            nonce,
            ordinal,
            end,
            entries: fields.u32()?,
            floors: fields.u32()?,
            crc: fields.u32()?,
        };
        (magic == *TRAILER_MAGIC).then_some(trailer)
    }

    /// Bytes of the footer, with the trailer.
    pub(super) fn footer(&self) -> u64 {
        footer_bytes(u64::from(self.entries), u64::from(self.floors))
    }

    /// The entries and floors in `bytes`, which end where the trailer begins.
    pub(super) fn contents<'a>(
        &self,
        bytes: &'a [u8],
    ) -> Option<(
        impl Iterator<Item = FooterEntry> + 'a,
        impl Iterator<Item = (u64, u64)> + 'a,
    )> {
        if crc32fast::hash(bytes) != self.crc || long(bytes.len()) + TRAILER != self.footer() {
            return None;
        }
        let entries = short(u64::from(self.entries) * FOOTER_ENTRY);
        let (entries, floors) = bytes.split_at_checked(entries)?;
        let (entries, _) = entries.as_chunks::<24>();
        let (floors, _) = floors.as_chunks::<16>();
        let entries = entries.iter().map(|bytes| FooterEntry::read(bytes));
        let floor = |bytes: &[u8; 16]| {
            let mut fields = Fields::new(bytes);
            Some((fields.u64()?, fields.u64()?))
        };
        let sound = entries.clone().all(|entry| entry.is_some());
        sound.then(|| (entries.flatten(), floors.iter().filter_map(floor)))
    }
}

#[cfg(test)]
mod tests;
