//! What a flight keeps of its content, and where its readers are in it.
//!
//! A new reader begins with the first byte, so once that is dropped nobody new can come: from then on
//! a piece that every reader has taken is of no use, and only those who lag behind are kept for.

use std::collections::VecDeque;

use bytes::Bytes;

/// Pieces in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Window {
    pieces: VecDeque<Kept>,
    /// Number of the first piece kept, counted from zero.
    first: u64,
    /// Bytes in the pieces that are kept.
    bytes: u64,
    /// Bytes that have arrived.
    arrived: u64,
    /// Number of the piece that the fastest reader takes next; the first one's if there is no reader.
    fastest: u64,
    /// Bytes kept from that piece on.
    ahead: u64,
    /// Readers that have taken all pieces.
    at_end: usize,
    /// Readers whose next piece is kept or yet to come.
    readers: usize,
}

#[derive(Debug)]
struct Kept {
    piece: Bytes,
    /// Readers that take it next.
    readers: usize,
}

/// Where a reader is.
#[derive(Debug)]
pub(super) struct Place {
    /// Number of the piece it takes next.
    next: u64,
    /// Bytes it has taken.
    pub(super) position: u64,
}

/// What a reader finds at its place.
#[derive(Debug)]
pub(super) enum Next {
    Piece(Bytes),
    /// It has taken all that came.
    End,
    /// The next piece is dropped.
    Lost,
}

impl Window {
    /// Bytes that have arrived.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Readers that have not been left behind.
    pub(super) fn readers(&self) -> usize {
        self.readers
    }

    /// The pieces that are kept.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter().map(|kept| &kept.piece)
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        let length = length(&piece);
        self.bytes = self.bytes.saturating_add(length);
        self.ahead = self.ahead.saturating_add(length);
        self.arrived = self.arrived.saturating_add(length);
        let readers = std::mem::take(&mut self.at_end);
        self.pieces.push_back(Kept { piece, readers });
    }

    /// A place before the first byte, while that is kept.
    pub(super) fn board(&mut self) -> Option<Place> {
        (self.first == 0).then(|| {
            *self.readers_at(0) += 1;
            self.readers += 1;
            Place {
                next: 0,
                position: 0,
            }
        })
    }

    /// Takes the piece at `place`. Also whether the fastest reader goes on by it.
    pub(super) fn take(&mut self, place: &mut Place) -> (Next, bool) {
        let Some(index) = self.index(place) else {
            return (Next::Lost, false);
        };
        let Some(kept) = self.pieces.get_mut(index) else {
            return (Next::End, false);
        };
        kept.readers -= 1;
        let piece = kept.piece.clone();
        *self.readers_at(index + 1) += 1;
        let leads = place.next == self.fastest;
        if leads {
            self.fastest += 1;
            self.ahead = self.ahead.saturating_sub(length(&piece));
        }
        place.next += 1;
        place.position = place.position.saturating_add(length(&piece));
        (Next::Piece(piece), leads)
    }

    /// The reader at `place` takes nothing any more.
    pub(super) fn leave(&mut self, place: &Place) {
        let Some(index) = self.index(place) else {
            return;
        };
        *self.readers_at(index) -= 1;
        self.readers -= 1;
        // It may have been the fastest.
        while self.fastest > self.first
            && let Ok(fastest) = usize::try_from(self.fastest - self.first)
            && *self.readers_at(fastest) == 0
        {
            self.fastest -= 1;
            let back = self.pieces.get(fastest - 1).map_or(0, |k| length(&k.piece));
            self.ahead = self.ahead.saturating_add(back);
        }
    }

    /// Drops what is no longer kept for anybody, and what is more than `most` bytes as far as the
    /// fastest reader has taken it. Tells whether that leaves room: no more than `most` bytes, of
    /// which the fastest reader has yet to take no more than `ahead`.
    pub(super) fn slide(&mut self, most: u64, ahead: u64) -> bool {
        while self.first < self.fastest
            && let Some(kept) = self.pieces.front()
            && (self.bytes > most || (self.first > 0 && kept.readers == 0))
        {
            self.drop_first();
        }
        self.bytes <= most && self.ahead <= ahead
    }

    /// Drops what is more than `most` bytes, whoever has yet to take it.
    pub(super) fn shed(&mut self, most: u64) {
        while self.bytes > most && !self.pieces.is_empty() {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some(kept) = self.pieces.pop_front() else {
            return;
        };
        let length = length(&kept.piece);
        self.bytes = self.bytes.saturating_sub(length);
        self.readers -= kept.readers;
        if self.fastest == self.first {
            self.fastest += 1;
            self.ahead = self.ahead.saturating_sub(length);
        }
        self.first += 1;
    }

    /// Which of the pieces kept is at `place`; as many as there are at the end.
    fn index(&self, place: &Place) -> Option<usize> {
        let index = place.next.checked_sub(self.first)?;
        usize::try_from(index).ok()
    }

    fn readers_at(&mut self, index: usize) -> &mut usize {
        match self.pieces.get_mut(index) {
            Some(kept) => &mut kept.readers,
            None => &mut self.at_end,
        }
    }
}

fn length(piece: &Bytes) -> u64 {
    u64::try_from(piece.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push(usize),
        Board,
        Take(usize),
        Leave(usize),
        Slide,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..40_usize).prop_map(Step::Push),
            1 => Just(Step::Board),
            8 => (0..4_usize).prop_map(Step::Take),
            1 => (0..4_usize).prop_map(Step::Leave),
            4 => Just(Step::Slide),
        ];
        prop::collection::vec(step, 0..200)
    }

    const MOST: u64 = 200;
    const AHEAD: u64 = 50;

    proptest! {
        /// Beside a list of all that came: readers get it in order until they are left behind, what
        /// is kept is what the rule says, and no less.
        #[test]
        fn is_a_list_of_which_the_beginning_is_dropped(steps in steps()) {
            let mut window = Window::default();
            let (mut all, mut first) = (Vec::<usize>::new(), 0);
            let mut readers = Vec::<Place>::new();
            for step in steps {
                match step {
                    Step::Push(length) => {
                        all.push(length);
                        window.push(Bytes::from(vec![0; length]));
                    }
                    Step::Board if readers.len() == 4 => {}
                    Step::Board => {
                        let place = window.board();
                        prop_assert_eq!(place.is_some(), first == 0);
                        readers.extend(place);
                    }
                    Step::Take(reader) => {
                        let Some(place) = readers.get_mut(reader) else { continue };
                        let next = usize::try_from(place.next).expect("few");
                        match window.take(place).0 {
                            Next::Piece(piece) => prop_assert_eq!(piece.len(), all[next]),
                            Next::End => prop_assert_eq!(next, all.len()),
                            Next::Lost => prop_assert!(next < first),
                        }
                    }
                    Step::Leave(reader) if reader < readers.len() => {
                        window.leave(&readers.swap_remove(reader));
                    }
                    Step::Leave(_) => {}
                    Step::Slide => {
                        let places = || readers.iter().filter_map(|place| {
                            usize::try_from(place.next).ok().filter(|next| *next >= first)
                        });
                        let fastest = places().max().unwrap_or(first);
                        let bytes = |from: usize| u64::try_from(all[from..].iter().sum::<usize>()).expect("few");
                        let mut keep = first;
                        while keep < fastest
                            && (bytes(keep) > MOST || (keep > 0 && places().all(|at| at != keep)))
                        {
                            keep += 1;
                        }
                        let room = bytes(keep) <= MOST && bytes(fastest) <= AHEAD;
                        prop_assert_eq!(window.slide(MOST, AHEAD), room);
                        first = keep;
                    }
                }
                prop_assert_eq!(window.pieces().count(), all.len() - first);
                let aboard = readers.iter().filter(|place| usize::try_from(place.next).expect("few") >= first);
                prop_assert_eq!(window.readers(), aboard.count());
            }
        }
    }
}
