//! Flights: who is aboard, what they are handed, and when the pilot is held back.

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

#[test]
fn the_window_follows_the_fastest_and_drops_the_slowest() {
    let (flight, pilot) = flight();
    let (mut fast, mut slow) = (flight.board().expect("kept"), flight.board().expect("kept"));
    let piece = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..9 {
        assert_eq!(room(&pilot), Poll::Ready(Room::Yes));
        pilot.push(piece.clone());
    }
    assert_eq!(room(&pilot), Poll::Pending, "9 MiB wait for a reader");
    assert!(matches!(read(&mut fast), Poll::Ready(Read::Piece(_))));
    assert_eq!(
        room(&pilot),
        Poll::Ready(Room::Yes),
        "the fast reader made room"
    );
    assert_eq!(read(&mut slow), Poll::Ready(Read::Lagging));
    assert!(flight.board().is_none(), "the first byte is gone");
    drop(fast);
    drop(slow);
    assert_eq!(room(&pilot), Poll::Ready(Room::Deserted));
}
