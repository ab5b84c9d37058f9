//! The threads that read from the disk: everyone is answered, and a device that hung is used again.

use std::time::Duration;

use super::readers::{NotRead, Readers};
use crate::check::many;
use crate::scene::{join, spawn, wait};
use crate::sync::Arc;

/// Longer than any model.
const DEADLINE: Duration = Duration::from_hours(1);

/// Whoever reads gets its own answer, though another read panics; with a stop beside it, that or
/// nothing; and the threads end.
pub fn everyone_who_reads_is_answered() {
    for stops in [false, true] {
        many(10_000, move || {
            let readers = Readers::start(2, DEADLINE).expect("threads");
            let readers = Arc::new(readers);
            let reading = |number: u32| {
                let readers = Arc::clone(&readers);
                spawn(move || {
                    for each in [number, number + 1] {
                        match wait(readers.run(move || each)) {
                            Ok(answer) => assert_eq!(answer, each),
                            Err(error) => assert!(stops && error == NotRead::Stopped),
                        }
                    }
                })
            };
            let reading = [reading(10), reading(20)];
            let panics = || std::panic::resume_unwind(Box::new("as it was told"));
            let answer: Result<(), NotRead> = wait(readers.run(panics));
            assert_eq!(answer, Err(NotRead::Stopped));
            if stops {
                assert_eq!(readers.stop(DEADLINE), 0);
                assert_eq!(wait(readers.run(|| 1)), Err(NotRead::Stopped));
            }
            join(reading);
            assert!(!readers.is_stalled());
            assert_eq!(readers.stop(DEADLINE), 0);
        });
    }
}
