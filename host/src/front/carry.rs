//! Carries content from the origin to the readers of a flight and, if a tier is to store it, into
//! memory that was set aside for it.

use bytes::Bytes;

use super::intake::Intake;
use super::origin::OriginBody;
use crate::cache::flight::{Pilot, Room};
use crate::tier::memory::put::Reservation;

/// Content whose length is unknown is set aside up to this many bytes: whoever sends without end
/// must not fill the memory before it is noticed.
const UNKNOWN_MAX: u64 = 16 << 20;
/// Content whose length is unknown is reserved for in steps of this many bytes.
pub(super) const STEP: u64 = 256 << 10;
/// Reserved for the key, the fields and the bookkeeping of an entry.
pub(super) const HEAD_BYTES: u64 = 8 << 10;

/// The origin's content broke off.
#[derive(Debug)]
pub(super) struct BrokenOff;

/// Carries content from the origin to the readers and, for as long as `reservation` lasts, into
/// memory. `store` is called with all of it before the last piece is handed out, so that whoever
/// has seen the end finds it stored.
pub(super) async fn carry(
    pilot: &Pilot,
    mut body: OriginBody,
    length: Option<u64>,
    reservation: &mut Option<Reservation>,
    store: impl FnOnce(&Pilot, Vec<Bytes>, Reservation),
) -> Result<(), BrokenOff> {
    let mut intake = Intake::new(length);
    let mut taken = 0_u64;
    let mut store = Some(store);
    loop {
        // Nobody need read for content that is all there to end well.
        let whole = length == Some(taken);
        if reservation.is_none() && !whole && pilot.room().await == Room::Deserted {
            return Err(BrokenOff);
        }
        match body.piece().await {
            None => break,
            Some(Err(_)) => return Err(BrokenOff),
            Some(Ok(piece)) => {
                taken = taken.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                if length.is_some_and(|length| taken > length) {
                    return Err(BrokenOff);
                }
                if !covers(reservation.as_mut(), length, taken) {
                    *reservation = None;
                }
                if reservation.is_none() {
                    pilot.push(piece);
                    continue;
                }
                let mut copies = Vec::new();
                intake.copy(&piece, |copy| copies.push(copy));
                if length == Some(taken)
                    && let (Some(reservation), Some(store)) = (reservation.take(), store.take())
                {
                    let mut pieces = pilot.pieces();
                    pieces.extend(copies.iter().cloned());
                    store(pilot, pieces, reservation);
                }
                for copy in copies {
                    pilot.push(copy);
                }
            }
        }
    }
    if length.is_some_and(|length| length != taken) {
        return Err(BrokenOff);
    }
    if let (Some(reservation), Some(store)) = (reservation.take(), store.take()) {
        store(pilot, pilot.pieces(), reservation);
    }
    Ok(())
}

/// Whether `reservation` covers content of which `taken` bytes have come, after growing if need be.
fn covers(reservation: Option<&mut Reservation>, length: Option<u64>, taken: u64) -> bool {
    let Some(reservation) = reservation else {
        return false;
    };
    if length.is_some() {
        return true;
    }
    let needed = taken.saturating_add(HEAD_BYTES);
    let short = needed.saturating_sub(reservation.bytes());
    taken <= UNKNOWN_MAX && (short == 0 || reservation.grow(short.max(STEP)))
}
