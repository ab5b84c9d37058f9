//! Flights: who is aboard, what they are handed, and when the pilot is held back.

use proptest::prelude::*;

use super::*;
use crate::entry::KeyHasher;

fn flight() -> (Arc<Flight>, Pilot) {
    Flight::new(
        KeyHasher::default().key(b"k").to_key(),
        SiteId(0),
        Vec::new(),
        0,
    )
}

fn read(reader: &mut Reader) -> Poll<Read> {
    reader.poll_read(&mut Context::from_waker(Waker::noop()))
}

fn room(pilot: &Pilot) -> Poll<Room> {
    let room = std::pin::pin!(pilot.room());
    room.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn every_reader_gets_every_byte_in_order() {
    let (flight, pilot) = flight();
    let mut early = flight.board().expect("nothing was dropped yet");
    assert_eq!(read(&mut early), Poll::Pending);
    pilot.push(Bytes::from_static(b"ab"));
    let mut late = flight.board().expect("all is kept");
    pilot.push(Bytes::from_static(b"c"));
    pilot.complete();
    for reader in [&mut early, &mut late] {
        assert_eq!(
            read(reader),
            Poll::Ready(Read::Piece(Bytes::from_static(b"ab")))
        );
        assert_eq!(
            read(reader),
            Poll::Ready(Read::Piece(Bytes::from_static(b"c")))
        );
        assert_eq!(read(reader), Poll::Ready(Read::End));
        assert_eq!(reader.position(), 3);
    }
}

#[test]
fn who_waits_to_come_aboard_keeps_a_flight_up() {
    let (flight, pilot) = flight();
    let interest = flight.interest(None);
    assert_eq!(room(&pilot), Poll::Ready(Room::Yes));
    drop(interest);
    assert_eq!(room(&pilot), Poll::Ready(Room::Deserted));
}

#[test]
fn a_dropped_pilot_breaks_the_flight() {
    let (flight, pilot) = flight();
    let mut reader = flight.board().expect("kept");
    drop(pilot);
    assert_eq!(read(&mut reader), Poll::Ready(Read::Broken));
    let landing = std::pin::pin!(flight.landing()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(
        landing,
        Poll::Ready(Landing::Failed(Failure::Abandoned))
    ));
}

/// Announces content of `length` bytes that others may have too.
fn land(pilot: &Pilot, length: Option<u64>) {
    let key = KeyHasher::default().key(b"k").to_key();
    pilot.land(Landing::Response(Arc::new(Head {
        status: StatusCode::OK,
        answered: StatusCode::OK,
        part: None,
        headers: HeaderMap::new(),
        withheld: HeaderMap::new(),
        length,
        age: 0,
        ttl: 60,
        shared: Shared::With {
            nominated: Vec::new(),
            key,
        },
        stored: false,
        kept: false,
    })));
}

fn takes(reader: &mut Reader) -> bool {
    matches!(read(reader), Poll::Ready(Read::Piece(_)))
}

#[test]
fn the_fastest_reader_sets_the_pace_and_the_slowest_is_left_behind() {
    let (flight, pilot) = flight();
    land(&pilot, Some(1 << 30));
    let (mut fast, mut slow) = (flight.board().expect("kept"), flight.board().expect("kept"));
    let piece = Bytes::from(vec![0; 128 << 10]);
    // 8 MiB for those who are yet to come.
    for _ in 0..64 {
        pilot.push(piece.clone());
        assert!(takes(&mut fast));
        assert_eq!(room(&pilot), Poll::Ready(Room::Yes));
    }
    assert!(flight.board().is_some(), "the first byte is there");
    for ahead in [
        Poll::Ready(Room::Yes),
        Poll::Ready(Room::Yes),
        Poll::Pending,
    ] {
        pilot.push(piece.clone());
        assert_eq!(room(&pilot), ahead, "256 KiB ahead of the fastest reader");
    }
    assert!(takes(&mut fast));
    assert_eq!(room(&pilot), Poll::Ready(Room::Yes));
    assert_eq!(read(&mut slow), Poll::Ready(Read::Lagging));
    assert!(flight.board().is_none(), "the first byte is gone");
    drop(fast);
    drop(slow);
    assert_eq!(room(&pilot), Poll::Ready(Room::Deserted));
}

#[test]
fn who_is_left_sets_the_pace_when_the_fastest_leaves() {
    let (flight, pilot) = flight();
    land(&pilot, None);
    let (mut fast, mut slow) = (flight.board().expect("kept"), flight.board().expect("kept"));
    let piece = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..8 {
        pilot.push(piece.clone());
        assert!(takes(&mut fast));
    }
    assert_eq!(room(&pilot), Poll::Ready(Room::Yes));
    drop(fast);
    assert_eq!(room(&pilot), Poll::Pending);
    for taken in 0..8 {
        assert_eq!(room(&pilot), Poll::Pending, "{taken} taken");
        assert!(takes(&mut slow));
    }
    assert_eq!(room(&pilot), Poll::Ready(Room::Yes));
}

#[test]
fn a_flight_is_over_when_all_of_its_content_has_come() {
    for (length, is_over) in [(Some(2), true), (Some(3), false), (None, false)] {
        let (flight, pilot) = flight();
        let _reader = flight.board();
        assert!(!flight.is_over());
        land(&pilot, length);
        assert!(!flight.is_over());
        pilot.push(Bytes::from_static(b"ab"));
        assert_eq!(flight.is_over(), is_over);
        pilot.complete();
        assert!(flight.is_over());
    }
}

#[test]
fn what_fits_the_window_is_taken_from_the_origin_at_once() {
    let (flight, pilot) = flight();
    land(&pilot, Some(8 << 20));
    let mut slow = flight.board().expect("kept");
    for _ in 0..8 {
        assert_eq!(room(&pilot), Poll::Ready(Room::Yes));
        pilot.push(Bytes::from(vec![0; 1 << 20]));
    }
    pilot.complete();
    for _ in 0..8 {
        assert!(takes(&mut slow));
    }
    assert_eq!(read(&mut slow), Poll::Ready(Read::End));
}

#[test]
fn who_is_left_behind_does_not_hold_the_pilot_back() {
    let (flight, pilot) = flight();
    land(&pilot, None);
    let (mut fast, mut slow) = (flight.board().expect("kept"), flight.board().expect("kept"));
    for _ in 0..9 {
        pilot.push(Bytes::from(vec![0; 1 << 20]));
        assert!(takes(&mut fast));
    }
    assert_eq!(room(&pilot), Poll::Ready(Room::Yes));
    drop(fast);
    // The slow one is asked for nothing, for example since its client takes nothing.
    assert_eq!(room(&pilot), Poll::Ready(Room::Deserted));
    drop(pilot);
    assert_eq!(read(&mut slow), Poll::Ready(Read::Lagging));
}

/// Whether it has been woken since it was last looked at.
#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(usize),
    Board,
    Read(usize),
    Leave(usize),
    Interest,
    NoInterest,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..5_usize).prop_map(Step::Push),
        2 => Just(Step::Board),
        8 => (0..3_usize).prop_map(Step::Read),
        1 => (0..3_usize).prop_map(Step::Leave),
        1 => Just(Step::Interest),
        1 => Just(Step::NoInterest),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// A pilot that waits and was not woken would find nothing else if it looked again, and there is
    /// somebody to wait for: whom something is there for, or who may come.
    #[test]
    fn a_pilot_is_woken_for_whatever_lets_it_go_on(
        length in prop::option::of((8_u64 << 20)..(10 << 20)),
        steps in steps(),
    ) {
        let (flight, pilot) = flight();
        land(&pilot, length);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let look = || std::pin::pin!(pilot.room()).poll(&mut Context::from_waker(&waker));
        let (mut readers, mut interests) = (Vec::new(), Vec::new());
        let mut waits = false;
        for step in steps {
            match step {
                Step::Push(length) if !waits => pilot.push(Bytes::from(vec![0; length << 17])),
                Step::Board => readers.extend(flight.board().filter(|_| readers.len() < 3)),
                Step::Read(reader) => {
                    if let Some(reader) = readers.get_mut(reader) {
                        drop(read(reader));
                    }
                }
                Step::Leave(reader) if reader < readers.len() => {
                    drop(readers.swap_remove(reader));
                }
                Step::Interest => interests.extend(flight.interest(None)),
                Step::NoInterest => drop(interests.pop()),
                Step::Push(_) | Step::Leave(_) => {}
            }
            let was_woken = woken.0.swap(false, Ordering::SeqCst);
            let found = look();
            if waits && !was_woken {
                prop_assert_eq!(found, Poll::Pending, "after {:?}", step);
            }
            waits = found.is_pending();
            if waits {
                let behind = |reader: &Reader| reader.position() < flight.arrived();
                prop_assert!(!interests.is_empty() || readers.iter().any(behind));
            }
        }
    }
}
