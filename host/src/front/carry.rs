//! Carries content from the origin to the readers of a flight and, if it is to be stored, into
//! memory that was set aside for it or, where memory has no room, into a tier below.

use bytes::Bytes;

use super::intake::Intake;
use super::origin::OriginBody;
use crate::cache::flight::{Pilot, Room};
use crate::cache::lower::{Lower, LowerWriter};
use crate::cache::stores::StoreOutcome;
use crate::entry::KeyView;
use crate::tier::memory::put::{Put, Rejected, Reservation};
use crate::tier::slow::Written;

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

/// Where content goes besides its readers.
#[derive(Debug, Default)]
pub(super) struct Sink<'a> {
    /// Memory set aside for it.
    reservation: Option<Reservation>,
    /// A tier below that takes what memory does not.
    writer: Option<LowerWriter>,
    /// Where to look for one, and what it is to be stored under.
    lower: Option<(&'a Lower, KeyView<'a>)>,
    /// What has come of it where it did not go.
    outcome: StoreOutcome,
}

impl<'a> Sink<'a> {
    /// Into memory that `reserved` has set aside; without it, under the key given with `lower` into
    /// a tier there that takes `length` bytes, if there is one.
    pub(super) fn new(
        reserved: Result<Reservation, Rejected>,
        lower: Option<(&'a Lower, KeyView<'a>)>,
        length: Option<u64>,
    ) -> Self {
        let mut sink = Self {
            lower,
            ..Self::default()
        };
        match reserved {
            Ok(reservation) => sink.reservation = Some(reservation),
            Err(rejected) => sink.go_below(rejected, length),
        }
        sink
    }

    /// Goes into a tier below, since memory has `rejected` it.
    fn go_below(&mut self, rejected: Rejected, length: Option<u64>) {
        self.outcome.add_memory(Put::Rejected(rejected));
        let lower = self.lower;
        self.writer = lower.and_then(|(lower, key)| lower.writer(key, length));
    }

    /// Whether memory has room for all of it, as far as is known.
    pub(super) fn keeps(&self) -> bool {
        self.reservation.is_some()
    }

    /// Whether it is stored, if all goes well.
    pub(super) fn stores(&self) -> bool {
        self.reservation.is_some() || self.writer.is_some()
    }

    /// Makes sure that there is room for content of which `taken` bytes have come, in memory or
    /// below it.
    async fn admit(&mut self, pilot: &Pilot, length: Option<u64>, taken: u64) {
        if self.reservation.is_none() || covers(self.reservation.as_mut(), length, taken) {
            return;
        }
        self.reservation = None;
        let rejected = match taken > UNKNOWN_MAX {
            true => Rejected::TooLarge,
            false => Rejected::NoRoom,
        };
        self.go_below(rejected, length);
        for piece in pilot.pieces() {
            self.write(&piece).await;
        }
    }

    /// Gives `piece` to the tier below.
    async fn write(&mut self, piece: &Bytes) {
        if let Some(writer) = &mut self.writer
            && !writer.push(piece.clone()).await
        {
            self.outcome.add(writer.tier(), Written::Full);
            self.writer = None;
        }
    }
}

/// Carries content from the origin to the readers and into `sink`. `store` is called with all that
/// memory was set aside for, before the last piece is handed out, so that whoever has seen the end
/// finds it stored. The answer is what a tier below has taken instead, all of it, and what came of it
/// elsewhere.
pub(super) async fn carry(
    pilot: &Pilot,
    mut body: OriginBody,
    length: Option<u64>,
    mut sink: Sink<'_>,
    store: impl FnOnce(&Pilot, Vec<Bytes>, Reservation),
) -> Result<(Option<LowerWriter>, StoreOutcome), BrokenOff> {
    let mut intake = Intake::new(length);
    let mut taken = 0_u64;
    let mut store = Some(store);
    loop {
        // Nobody need read for content that is all there to end well, or that is stored.
        let whole = length == Some(taken);
        if sink.reservation.is_none() && !whole && pilot.room().await == Room::Deserted {
            match sink.writer {
                Some(_) => pilot.shed(),
                None => return Err(BrokenOff),
            }
        }
        match body.piece().await {
            None => break,
            Some(Err(_)) => return Err(BrokenOff),
            Some(Ok(piece)) => {
                taken = taken.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                if length.is_some_and(|length| taken > length) {
                    return Err(BrokenOff);
                }
                sink.admit(pilot, length, taken).await;
                if sink.reservation.is_none() {
                    pilot.push(piece.clone());
                    sink.write(&piece).await;
                    continue;
                }
                let mut copies = Vec::new();
                intake.copy(&piece, |copy| copies.push(copy));
                if length == Some(taken)
                    && let (Some(reservation), Some(store)) =
                        (sink.reservation.take(), store.take())
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
    if let (Some(reservation), Some(store)) = (sink.reservation.take(), store.take()) {
        store(pilot, pilot.pieces(), reservation);
    }
    Ok((sink.writer, sink.outcome))
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
