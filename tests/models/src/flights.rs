//! A flight, its pilot and its readers; lookups that are shared; places to fetch.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::cache::flight::{Failure, Flight, Head, Landing, Pilot, Read, Reader, Room, Shared};
use crate::cache::hydration::{Hydration, Priority};
use crate::check::many;
use crate::entry::{KeyHasher, SiteId};
use crate::scene::{SITE, join, spawn, wait};
use crate::sync::Arc;

fn flight() -> (Arc<Flight>, Pilot) {
    let key = KeyHasher::default().key(b"key").to_key();
    Flight::new(key, SITE, Vec::new(), 0)
}

fn head() -> Landing {
    Landing::Response(Arc::new(Head {
        status: StatusCode::OK,
        answered: StatusCode::OK,
        part: None,
        headers: HeaderMap::new(),
        withheld: HeaderMap::new(),
        length: None,
        age: 0,
        ttl: 0,
        // Of what nobody else reads the least is kept.
        shared: Shared::No,
        stored: false,
        kept: false,
    }))
}

async fn read(reader: &mut Reader) -> Read {
    poll_fn(|cx| reader.poll_read(cx)).await
}

/// Everyone who waits for a flight hears of its landing, gets every piece in order, and hears of its
/// end: also if its pilot is dropped on the way.
pub fn everyone_aboard_hears_of_the_end() {
    for ends in 0..5_u8 {
        many(5_000, move || {
            let (flight, pilot) = flight();
            let board = || {
                let (interest, flight) = (flight.interest(Some(8)), Arc::clone(&flight));
                spawn(move || {
                    let interest = interest.expect("there is room");
                    let landed = wait(flight.landing());
                    if ends == 0 {
                        assert!(matches!(landed, Landing::Failed(Failure::Abandoned)));
                    }
                    let mut reader = flight.board().expect("nothing is lost yet");
                    drop(interest);
                    let mut next = 0;
                    loop {
                        match wait(read(&mut reader)) {
                            Read::Piece(piece) => assert_eq!(piece[..], [next]),
                            Read::End => break assert_eq!((next, ends), (2, 4)),
                            Read::Broken => break assert!(ends < 4),
                            Read::Lagging => panic!("all of it is kept"),
                        }
                        next += 1;
                    }
                })
            };
            let readers = [board(), board()];
            // It gives up after so many steps.
            let steps = [
                |pilot: &Pilot| pilot.land(head()),
                |pilot: &Pilot| pilot.push(Bytes::from_static(&[0])),
                |pilot: &Pilot| pilot.push(Bytes::from_static(&[1])),
            ];
            for step in steps.iter().take(usize::from(ends)) {
                step(&pilot);
            }
            match ends {
                4 => pilot.complete(),
                _ => drop(pilot),
            }
            join(readers);
            assert_eq!(flight.waiting(), 0);
        });
    }
}

/// A pilot that keeps a window goes on as soon as the fastest reader has taken a piece or left, and a
/// reader that falls behind is told so.
pub fn a_pilot_waits_for_the_fastest_reader_alone() {
    static PIECE: [u8; 200 << 10] = [0; 200 << 10];
    many(10_000, || {
        let (flight, pilot) = flight();
        pilot.land(head());
        let board = |leaves_after: usize| {
            let mut reader = flight.board().expect("nothing has come");
            spawn(move || {
                for taken in 0.. {
                    if taken == leaves_after {
                        return;
                    }
                    match wait(read(&mut reader)) {
                        Read::Piece(_) => {}
                        Read::End | Read::Lagging => return,
                        Read::Broken => panic!("it was completed, or nobody was left"),
                    }
                }
            })
        };
        let readers = [board(1), board(3)];
        for _ in 0..4 {
            pilot.push(Bytes::from_static(&PIECE));
            if wait(pilot.room()) == Room::Deserted {
                break;
            }
        }
        pilot.complete();
        join(readers);
    });
}

/// Every place comes back and nobody waits for ever, although some leave before their turn.
pub fn places_come_back_whoever_leaves() {
    many(10_000, || {
        let hydration = Arc::new(Hydration::new(1));
        let enter = |site: u64, priority: Priority, patient: bool| {
            let hydration = Arc::clone(&hydration);
            spawn(move || {
                wait(async {
                    let mut entering = pin!(hydration.enter(SiteId(site), priority));
                    let place = poll_fn(|cx| match entering.as_mut().poll(cx) {
                        Poll::Pending if !patient => Poll::Ready(None),
                        entered => entered.map(Some),
                    })
                    .await;
                    if let Some(place) = place {
                        let place = place.expect("few wait");
                        let (running, _) = hydration.counts();
                        assert_eq!(running, 1, "there is one place");
                        shuttle::future::yield_now().await;
                        drop(place);
                    }
                });
            })
        };
        join([
            enter(1, Priority::Interactive, true),
            enter(1, Priority::Revalidation, true),
            enter(2, Priority::Interactive, false),
            enter(2, Priority::Interactive, true),
        ]);
        assert_eq!(hydration.counts(), (0, 0));
    });
}
