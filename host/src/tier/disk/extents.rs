//! Writing content in extents: records that nothing but the table in a parent leads to, which is
//! written after them.

use std::sync::Arc;

use bytes::Bytes;

use super::content::{Assembly, Extent, Layout};
use super::format::{CHUNK, HEADER, RecordKind, footer_bytes, long, record_bytes};
use super::index::{Hash, Hour};
use super::log::{Draft, Log, Unwritten};
use super::pieces::split;
use super::segment::Floors;

impl Log {
    /// Writes `pieces`, which are no longer than one extent, as the next part of the content that
    /// is assembled.
    pub(super) fn write_extents(
        &mut self,
        assembly: &Assembly,
        pieces: &[Bytes],
    ) -> Result<(), Unwritten> {
        let key = {
            let assembled = assembly.lock();
            if assembled.abandoned {
                return Err(Unwritten);
            }
            assembled.key
        };
        let written = self.append_extents(key, pieces)?;
        let mut assembled = assembly.lock();
        for piece in pieces {
            assembled.hasher.update(piece);
        }
        assembled.layout.append(written);
        Ok(())
    }

    /// Appends `pieces`, which are no longer than one extent, as one, or as two where the segment
    /// ends. Where they lie.
    pub(super) fn append_extents(
        &mut self,
        key: Hash,
        pieces: &[Bytes],
    ) -> Result<Layout, Unwritten> {
        let mut written = Layout::default();
        let mut left = pieces.to_vec();
        while !left.is_empty() {
            let length = left.iter().map(|piece| long(piece.len())).sum();
            self.make_room(record_bytes(0, length).min(record_bytes(0, CHUNK)))?;
            let now = self.room_for_content().min(length);
            let (extent, rest) = split(&left, now);
            left = rest;
            let draft = Draft {
                kind: RecordKind::Extent,
                hash: key.0,
                meta: &[],
                content: &extent,
                expires: Hour::default(),
            };
            let (unit, table) = self.stage(&draft)?;
            let Some(current) = &self.current else {
                return Err(Unwritten);
            };
            written.append(Layout {
                extents: vec![Extent {
                    segment: Arc::clone(&current.segment),
                    unit,
                    length: now,
                }],
                checksums: table,
                length: now,
            });
            self.flush_if_due()?;
        }
        Ok(written)
    }

    /// Whole chunks of content that the open segment has room for, at least one.
    fn room_for_content(&self) -> u64 {
        let Some(current) = &self.current else {
            return CHUNK;
        };
        let room = self.shared.identity.segment_bytes
            - current.at
            - footer_bytes(current.entries, long(Floors::MAX));
        let chunks = room.saturating_sub(HEADER) / (CHUNK + 4);
        chunks.max(1) * CHUNK
    }
}
