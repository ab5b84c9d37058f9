//! The form of an entry's head in an object store: the same on every kind of store, because it
//! uses nothing of a store but bytes under a name.
//!
//! ```text
//! at   0  "LARDEROB"
//!      8  version, 1
//!      9  where the content is: 0 follows, 1 in an object of its own
//!     10  0, 0
//!     12  bytes of the envelope, u32       (numbers are little-endian)
//!     16  bytes of content, u64
//!     24  nonce of the content's object, 16 bytes; zero if the content follows
//!     40  BLAKE3 of all up to here, of the envelope and of the table
//!     72  the envelope
//!         the table: BLAKE3 of each chunk of 256 KiB, if the content is an object of its own
//!         the content, if it follows; the envelope has its BLAKE3
//! ```
//!
//! What is of another version, too long, too short or has another hash is no head.

use blake3::Hasher;
use bytes::{BufMut, Bytes, BytesMut};

use super::names::Nonce;
use crate::entry::kept::READ_MAX;
use crate::tier::envelope::{Envelope, FORM_MAX, Undecodable};

const MAGIC: [u8; 8] = *b"LARDEROB";
const VERSION: u8 = 1;
/// Bytes of what begins every head.
pub(super) const PRELUDE: u64 = 72;
/// Bytes of that before its hash.
const SUMMED: usize = 40;
/// Bytes of a hash.
const HASH: usize = blake3::OUT_LEN;

/// Bytes of a chunk, all but the last: what one read answers.
pub(super) const CHUNK: usize = READ_MAX;
/// The same, as a length.
pub(super) const CHUNK_LEN: u64 = 256 << 10;
/// Bytes of content that follow a head, at most. More is an object of its own.
pub(super) const INLINE_MAX: u64 = 1 << 20;
/// Bytes of content that the tier keeps of an entry, at most.
pub(super) const CONTENT_MAX: u64 = 32 << 30;
/// Bytes of a table, at most: those of the longest content.
const TABLE_MAX: u64 = 4 << 20;
/// Bytes of a head, at most.
pub(super) const HEAD_MAX: u64 = PRELUDE + (1 << 20) + TABLE_MAX;
const _: () = assert!(FORM_MAX == 1 << 20, "part of HEAD_MAX");
const _: () = assert!(
    TABLE_MAX > INLINE_MAX,
    "a head with its content is no longer"
);
const _: () = assert!(CHUNK == 256 << 10, "part of the form");

/// A head, decoded and verified.
#[derive(Debug)]
pub(super) struct Head {
    /// All of the entry but its content.
    pub(super) envelope: Envelope,
    /// Its content.
    pub(super) content: Place,
}

/// Where content is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Here, verified.
    Here(Bytes),
    /// In an object of its own.
    Own {
        /// Which.
        nonce: Nonce,
        /// What each chunk of it must be.
        table: Table,
    },
}

/// The hashes of the chunks of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table(Bytes);

impl Table {
    /// The same, with the hash of the whole content.
    pub(super) fn hashed(&self, (digest, length): ([u8; HASH], u64)) -> Hashed {
        Hashed {
            digest,
            length,
            table: self.0.to_vec(),
        }
    }

    /// Whether `bytes` are chunk `number` of the content.
    pub(super) fn verifies(&self, number: u64, bytes: &[u8]) -> bool {
        let at = usize::try_from(number)
            .ok()
            .and_then(|n| n.checked_mul(HASH));
        let hash = at.and_then(|at| self.0.get(at..at.checked_add(HASH)?));
        hash.is_some_and(|hash| blake3::hash(bytes).as_bytes() == hash)
    }
}

/// Why an object is no head that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// Something else, or a later version, wrote it.
    #[error("the object was not written by this version")]
    Foreign,
    /// It is not what was written.
    #[error("the object is damaged")]
    Damaged,
}

/// The object of an entry whose content is `content`, in pieces that share it. None if the fields
/// of the response are too long, or the content is.
pub(super) fn with_content(envelope: &Envelope, content: &[Bytes]) -> Option<Vec<Bytes>> {
    if envelope.length > INLINE_MAX {
        return None;
    }
    let mut pieces = vec![encode(envelope, None)?];
    pieces.extend(content.iter().filter(|piece| !piece.is_empty()).cloned());
    Some(pieces)
}

/// The object of an entry whose content is an object of its own, and was `hashed`. None if the
/// fields of the response are too long.
pub(super) fn without_content(envelope: &Envelope, nonce: Nonce, hashed: &Hashed) -> Option<Bytes> {
    encode(envelope, Some((nonce, &hashed.table)))
}

fn encode(envelope: &Envelope, own: Option<(Nonce, &[u8])>) -> Option<Bytes> {
    let form = envelope.encode()?;
    let (nonce, table) = own.unwrap_or((Nonce::default(), &[]));
    let mut head = BytesMut::with_capacity(SUMMED + HASH + form.len() + table.len());
    head.put_slice(&MAGIC);
    head.put_u8(VERSION);
    head.put_u8(own.is_some().into());
    head.put_u16_le(0);
    head.put_u32_le(u32::try_from(form.len()).ok()?);
    head.put_u64_le(envelope.length);
    head.put_slice(&nonce);
    let hash = hash_of(&head, &form, table);
    head.put_slice(&hash);
    head.put_slice(&form);
    head.put_slice(table);
    Some(head.freeze())
}

fn hash_of(prelude: &[u8], form: &[u8], table: &[u8]) -> [u8; HASH] {
    let mut hasher = Hasher::new();
    for part in [prelude, form, table] {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// What the first bytes of an object say.
struct Prelude {
    own: Option<Nonce>,
    form: u32,
    length: u64,
    hash: [u8; HASH],
}

impl Prelude {
    fn parse(bytes: &[u8]) -> Result<Self, Unusable> {
        let mut rest = bytes;
        let magic: [u8; 8] = take(&mut rest)?;
        let [version, place, zero, also] = take(&mut rest)?;
        if magic != MAGIC || version != VERSION {
            return Err(Unusable::Foreign);
        }
        let form = u32::from_le_bytes(take(&mut rest)?);
        let length = u64::from_le_bytes(take(&mut rest)?);
        let nonce: Nonce = take(&mut rest)?;
        let own = match place {
            0 if nonce == Nonce::default() => None,
            1 => Some(nonce),
            _ => return Err(Unusable::Damaged),
        };
        if [zero, also] != [0, 0] {
            return Err(Unusable::Damaged);
        }
        let hash = take(&mut rest)?;
        Ok(Self {
            own,
            form,
            length,
            hash,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Unusable> {
    let (first, after) = rest.split_first_chunk().ok_or(Unusable::Damaged)?;
    *rest = after;
    Ok(*first)
}

/// The object that the content is in, as the first [`PRELUDE`] bytes of a head say: none if the
/// content follows. Not verified: good enough to find what may be deleted, not what is served.
///
/// # Errors
/// They are not the beginning of a head.
pub(super) fn content_of(prelude: &[u8]) -> Result<Option<Nonce>, Unusable> {
    Prelude::parse(prelude).map(|prelude| prelude.own)
}

/// The head in `object`, which is all of it. The content, if it follows, is shared and verified.
///
/// # Errors
/// It is no head.
pub(super) fn decode(object: &Bytes) -> Result<Head, Unusable> {
    let prelude = Prelude::parse(object)?;
    let damaged = Unusable::Damaged;
    let form = usize::try_from(prelude.form).map_err(|_| damaged)?;
    let table = match prelude.own {
        Some(_) if prelude.length <= CONTENT_MAX => chunks(prelude.length) * 32,
        None if prelude.length <= INLINE_MAX => 0,
        _ => return Err(damaged),
    };
    let table = usize::try_from(table).map_err(|_| damaged)?;
    let (summed, rest) = object.split_at_checked(SUMMED).ok_or(damaged)?;
    let form = rest.get(HASH..HASH.saturating_add(form)).ok_or(damaged)?;
    let at = SUMMED + HASH + form.len();
    let rest = object.len().checked_sub(at + table).ok_or(damaged)?;
    let table = object.slice(at..at + table);
    if hash_of(summed, form, &table) != prelude.hash {
        return Err(damaged);
    }
    let envelope = Envelope::decode(form).map_err(|error| match error {
        Undecodable::Version(_) => Unusable::Foreign,
        Undecodable::Malformed | Undecodable::Future => Unusable::Damaged,
    })?;
    let content = object.slice(object.len() - rest..);
    let content = match prelude.own {
        Some(nonce) if content.is_empty() => Place::Own {
            nonce,
            table: Table(table),
        },
        None if content_is(&envelope, &content) => Place::Here(content),
        _ => return Err(damaged),
    };
    if envelope.length != prelude.length {
        return Err(damaged);
    }
    Ok(Head { envelope, content })
}

fn content_is(envelope: &Envelope, content: &[u8]) -> bool {
    u64::try_from(content.len()) == Ok(envelope.length)
        && *blake3::hash(content).as_bytes() == envelope.digest
}

/// Chunks of content of this many bytes.
pub(super) fn chunks(length: u64) -> u64 {
    length.div_ceil(CHUNK_LEN)
}

/// The hash of content, and those of its chunks.
#[derive(Debug)]
pub(super) struct Hashed {
    /// Of the whole.
    pub(super) digest: [u8; HASH],
    /// Bytes of the content.
    pub(super) length: u64,
    table: Vec<u8>,
}

/// Hashes content as it passes.
#[derive(Debug, Default)]
pub(super) struct Hashing {
    whole: Hasher,
    chunk: Hasher,
    filled: usize,
    length: u64,
    table: Vec<u8>,
}

impl Hashed {
    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.table.len()).unwrap_or(u64::MAX)
    }
}

impl Hashing {
    /// The next bytes of the content.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.length = self.length.saturating_add(length);
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK - self.filled));
            self.chunk.update(now);
            self.filled += now.len();
            if self.filled == CHUNK {
                self.end_chunk();
            }
            bytes = rest;
        }
    }

    /// That was all.
    pub(super) fn finish(mut self) -> Hashed {
        if self.filled > 0 {
            self.end_chunk();
        }
        Hashed {
            digest: self.whole.finalize().into(),
            length: self.length,
            table: self.table,
        }
    }

    fn end_chunk(&mut self) {
        self.table
            .extend_from_slice(self.chunk.finalize().as_bytes());
        self.chunk.reset();
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{KeyHasher, Nominations, SiteId};
    use crate::tier::envelope::{Born, Kind};
    use proptest::prelude::*;

    const BORN: Born = Born {
        node: 1,
        purge: 2,
        at: 3,
    };

    fn envelope(content: &[u8]) -> Envelope {
        let key = KeyHasher::default().key(b"a key").to_key();
        Envelope {
            key: key.view().bytes.into(),
            site: SiteId(4),
            tags: Box::default(),
            kind: Kind::Nominations(Nominations::default()),
            born: BORN,
            length: u64::try_from(content.len()).unwrap(),
            digest: blake3::hash(content).into(),
        }
    }

    fn hashed(content: &[u8]) -> Hashed {
        let mut hashing = Hashing::default();
        for piece in content.chunks(100_000) {
            hashing.update(piece);
        }
        hashing.finish()
    }

    #[test]
    fn small_content_follows_its_head_uncopied() {
        for length in [0, 1, 1 << 20] {
            let content = Bytes::from(vec![7; length]);
            let pieces = with_content(&envelope(&content), std::slice::from_ref(&content)).unwrap();
            if let Some(piece) = pieces.get(1) {
                assert_eq!(piece.as_ptr(), content.as_ptr());
            }
            let object = Bytes::from(pieces.concat());
            assert!(u64::try_from(object.len()).unwrap() <= HEAD_MAX);
            let head = decode(&object).unwrap();
            assert_eq!(head.envelope, envelope(&content));
            assert_eq!(head.content, Place::Here(content));
            assert_eq!(content_of(&object), Ok(None));
        }
        let long = vec![0; (1 << 20) + 1];
        assert!(with_content(&envelope(&long), &[Bytes::from(long.clone())]).is_none());
    }

    #[test]
    fn large_content_is_verified_chunk_by_chunk() {
        let content: Vec<u8> = (0..=u8::MAX).cycle().take(3 * CHUNK + 5).collect();
        let hashed = hashed(&content);
        assert_eq!(hashed.digest, *blake3::hash(&content).as_bytes());
        let object = without_content(&envelope(&content), [9; 16], &hashed).unwrap();
        let Place::Own { nonce, table } = decode(&object).unwrap().content else {
            panic!("an object of its own")
        };
        assert_eq!(nonce, [9; 16]);
        assert_eq!(content_of(&object[..72]), Ok(Some(nonce)));
        for (chunk, number) in content.chunks(CHUNK).zip(0..) {
            assert!(table.verifies(number, chunk));
            assert!(!table.verifies(number, &chunk[1..]));
            assert!(!table.verifies(number + 4, chunk));
        }
        assert!(!table.verifies(u64::MAX, b""));
    }

    #[test]
    fn other_versions_and_other_things_are_foreign() {
        let mut object = with_content(&envelope(b"c"), &[]).unwrap().concat();
        object[8] = 2;
        assert_eq!(decode(&object.into()).unwrap_err(), Unusable::Foreign);
        let other = Bytes::from(vec![b'<'; 100]);
        assert_eq!(decode(&other).unwrap_err(), Unusable::Foreign);
        assert_eq!(decode(&Bytes::new()).unwrap_err(), Unusable::Damaged);
    }

    proptest! {
        #[test]
        fn no_changed_bit_and_no_cut_passes(bit in 0..10_000_usize, large: bool) {
            let content = Bytes::from_static(b"some content");
            let mut object = if large {
                let hashed = hashed(&content);
                without_content(&envelope(&content), [1; 16], &hashed).unwrap().to_vec()
            } else {
                with_content(&envelope(&content), &[content]).unwrap().concat()
            };
            let bit = bit % (object.len() * 8);
            prop_assert!(decode(&Bytes::copy_from_slice(&object)).is_ok());
            prop_assert!(decode(&Bytes::copy_from_slice(&object[..bit / 8])).is_err());
            prop_assert!(decode(&[object.as_slice(), b"\0"].concat().into()).is_err());
            object[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&object.into()).is_err());
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), known: bool) {
            let known = if known { &b"LARDEROB\x01"[..] } else { b"" };
            decode(&[known, &bytes].concat().into()).ok();
        }
    }
}
