//! Receipts of purges, and the walks that settle them.

use super::Effect;
use super::purges::Mark;
use super::receipts::{Below, Kind, Receipts};
use crate::check::many;
use crate::scene::{join, spawn};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering::SeqCst};
use crate::tier::{Purged, Selection};

/// What every purge covers in memory, and below it.
const MEMORY: u64 = 2;
const BELOW: u64 = 3;

/// How a walk ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// When nothing waits any more.
    Done,
    /// Before it has counted anything.
    Early,
    /// Without a count.
    Uncounted,
}

#[derive(Default)]
struct Scene {
    receipts: Receipts,
    purges: AtomicU64,
}

fn purged(entries: u64) -> Purged {
    Purged {
        entries,
        bytes: 10 * entries,
    }
}

impl Scene {
    /// Writes the receipt of a purge, and walks unless somebody does. The name of the receipt.
    fn purge(&self, ends: Ends) -> String {
        let number = self.purges.fetch_add(1, SeqCst) + 1;
        let below = Below {
            mark: Mark { number, at: 0 },
            selection: Selection::everything(),
            held: Some(Vec::new()),
            countable: true,
            uncounted: Vec::new(),
        };
        let (kinds, covered) = (&[Kind::All], purged(MEMORY));
        let receipt = self.receipts.write(kinds, Effect::Hard, covered, below);
        assert!(!receipt.settled);
        if self.receipts.begin() {
            self.walk(ends);
        }
        receipt.id
    }

    fn walk(&self, ends: Ends) {
        if ends == Ends::Uncounted {
            return self.receipts.give_up(&["disk"]);
        }
        while let Some(waiting) = self.receipts.next_walk() {
            assert!(!waiting.is_empty());
            if ends == Ends::Early {
                return self.receipts.broke_off();
            }
            for unsettled in &waiting {
                self.receipts.settle(unsettled, purged(BELOW), &[]);
            }
        }
    }
}

/// Every receipt settles, once, by a walk of its own or by another one's, also if that gives up; what
/// a walk leaves that breaks off is left to the next.
pub fn every_receipt_settles_once() {
    for others in [Ends::Done, Ends::Early, Ends::Uncounted] {
        many(15_000, move || {
            let scene = Arc::<Scene>::default();
            let purge = |ends| {
                let scene = Arc::clone(&scene);
                spawn(move || {
                    let id = scene.purge(ends);
                    assert!(scene.receipts.find(&id).is_some());
                })
            };
            join([purge(others), purge(Ends::Done), purge(others)]);
            assert!(others == Ends::Early || scene.receipts.unsettled() == 0);
            let last = scene.purge(Ends::Done);
            assert_eq!(scene.receipts.unsettled(), 0);
            assert!(!scene.receipts.begin(), "nothing waits");
            let receipt = scene.receipts.find(&last).expect("it is kept");
            assert!(receipt.settled && receipt.uncounted.is_empty());
            let whole = MEMORY + BELOW;
            assert_eq!((receipt.entries, receipt.bytes), (whole, 10 * whole));
            let (removed, _) = scene.receipts.entries();
            if others == Ends::Uncounted {
                assert!((3 * MEMORY + whole..=4 * whole).contains(&removed));
            } else {
                assert_eq!(removed, 4 * whole, "each is counted once");
            }
        });
    }
}

/// Once receipts are stopped no walk begins, and nobody waits for the stop in vain.
pub fn no_walk_begins_after_a_stop() {
    many(10_000, || {
        let scene = Arc::<Scene>::default();
        let walking = {
            let scene = Arc::clone(&scene);
            spawn(move || {
                scene.purge(Ends::Early);
                crate::scene::wait(scene.receipts.stopped());
            })
        };
        scene.receipts.stop();
        let id = scene.purge(Ends::Done);
        let receipt = scene.receipts.find(&id).expect("it is kept");
        assert_eq!((receipt.settled, receipt.entries), (false, MEMORY));
        join([walking]);
        assert!(!scene.receipts.begin());
    });
}
