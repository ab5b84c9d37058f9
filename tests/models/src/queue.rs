//! What waits to be written to the disk: claims on keys, room, and whoever waits for the end of it.

use std::time::Duration;

use super::format::RecordKind;
use super::index::{Hash, Hour, Index, Place};
use super::queue::{Item, Queue, Queued, Refused};
use super::segment::Floors;
use crate::check::many;
use crate::entry::{Entry, KeyHasher};
use crate::scene::{join, spawn, wait, weighing};
use crate::sync::thread::JoinHandle;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::tier::envelope::Born;

/// Longer than any model.
const PATIENCE: Duration = Duration::from_hours(1);
/// What every item is charged.
const CHARGE: u64 = 100;
const NODE: u64 = 7;

struct Scene {
    queue: Queue,
    index: Index,
    entry: Arc<Entry>,
    /// Who claimed the key, in this order.
    claimed: Mutex<Vec<u32>>,
    /// Of what was written.
    floors: Mutex<Floors>,
}

/// The key that all have in common.
const KEY: Hash = Hash::of(1 << 60);

/// Where `number` writes.
fn place(number: u32) -> Place {
    Place {
        segment: 1,
        unit: number,
        units: 1,
        kind: RecordKind::Whole,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scene {
    /// With room for `items`.
    fn new(items: u64) -> Arc<Self> {
        let key = KeyHasher::default().key(b"key").to_key();
        Arc::new(Self {
            queue: Queue::new(items * CHARGE),
            index: Index::default(),
            entry: weighing(&key),
            claimed: Mutex::default(),
            floors: Mutex::default(),
        })
    }

    /// Something that purge `number` came before, and that is of no key.
    fn item(&self, number: u32) -> Queued {
        let born = Born {
            node: NODE,
            purge: u64::from(number),
            at: 0,
        };
        Queued {
            item: Item::Entry(Arc::clone(&self.entry), born),
            claim: None,
            charge: CHARGE,
        }
    }

    /// Claims the key as a put or a removal does, and queues what it claimed it for.
    fn claim(&self, number: u32, removes: bool) {
        let (claim, stored) = self.queue.claim(KEY, || {
            locked(&self.claimed).push(number);
            self.index.remove(KEY)
        });
        self.finds_nothing_before(number);
        let tombstone = Queued {
            item: Item::Tombstone,
            ..self.item(number)
        };
        let queued = Queued {
            claim: Some(claim),
            ..if removes {
                tombstone
            } else {
                self.item(number)
            }
        };
        if removes && !stored {
            self.queue.release(claim);
        } else if let Err(error) = wait(self.queue.push(queued, PATIENCE)) {
            assert!(matches!(error, Refused::Superseded), "{error:?}");
        }
        self.finds_nothing_before(number);
    }

    /// What is found was claimed for by `number`, or later.
    fn finds_nothing_before(&self, number: u32) {
        let Some(found) = self.index.get(KEY) else {
            return;
        };
        let claimed = locked(&self.claimed);
        let order = |number| claimed.iter().position(|each| *each == number);
        let order = (order(found.place.unit), order(number));
        assert!(order.0 >= order.1, "what was claimed before is found");
    }

    /// Writes as the log does, to a device that takes everything, until nothing more comes.
    fn write(&self) {
        loop {
            let lot = self.queue.take(PATIENCE);
            let count = lot.items.len();
            let mut staged = Vec::new();
            for queued in lot.items {
                if let Item::Entry(_, born) = queued.item {
                    locked(&self.floors).lower(born.node, born.purge);
                    staged.push((queued.claim, u32::try_from(born.purge).expect("it is low")));
                } else {
                    staged.push((queued.claim, 0));
                }
            }
            let mut claims = self.queue.claims();
            for (claim, number) in staged {
                let Some(claim) = claim else {
                    continue;
                };
                if claims.redeem(claim) && number > 0 {
                    self.index
                        .insert(claim.hash, place(number), Hour::default());
                }
            }
            drop(claims);
            self.queue.finish(count);
            if lot.stopping && count == 0 {
                return;
            }
        }
    }
}

/// Runs `work` beside others.
fn beside(scene: &Arc<Scene>, work: impl FnOnce(&Scene) + Send + 'static) -> JoinHandle<()> {
    let scene = Arc::clone(scene);
    spawn(move || work(&scene))
}

/// Of puts and removals of one key the one that claimed it last is what is found in the end, and from
/// its claim on nothing is found that was claimed before.
pub fn who_claims_last_is_found() {
    many(30_000, || {
        // The second has to wait for room, if it is that late.
        let scene = Scene::new(1);
        let writing = beside(&scene, Scene::write);
        let claims = [(1, false), (2, false), (3, true)];
        join(
            claims
                .map(|(number, removes)| beside(&scene, move |scene| scene.claim(number, removes))),
        );
        scene.queue.stop();
        join([writing]);
        let last = locked(&scene.claimed).last().copied();
        let last = last.filter(|last| *last != 3).map(place);
        assert_eq!(scene.index.get(KEY).map(|found| found.place), last);
        assert_eq!(scene.queue.bytes(), 0);
    });
}

/// Whoever waits for room gets it as soon as there is any, and there is never more in the queue than
/// fits.
pub fn who_waits_for_room_gets_it() {
    many(15_000, || {
        let scene = Scene::new(1);
        let writing = beside(&scene, Scene::write);
        join([1, 2, 3].map(|number| {
            beside(&scene, move |scene| {
                let item = scene.item(number);
                wait(scene.queue.push(item, PATIENCE)).expect("room, in the end");
                assert!(scene.queue.bytes() <= CHARGE);
            })
        }));
        scene.queue.stop();
        join([writing]);
        assert_eq!(scene.queue.bytes(), 0);
    });
}

/// Whoever settles goes on once what was put before is written, or given up: also if it is given up
/// by others than those who write, and beside them.
pub fn who_settles_hears_of_the_end_of_what_was_put() {
    for abandons in [false, true] {
        many(30_000, move || {
            let scene = Scene::new(8);
            let put = move |number| {
                move |scene: &Scene| {
                    let done = scene.queue.offer(scene.item(number));
                    assert!(done.is_ok() || abandons && matches!(done, Err(Refused::Closed)));
                    wait(scene.queue.settle());
                    let written = locked(&scene.floors).lowest(NODE);
                    assert!(abandons || written <= Some(u64::from(number)));
                }
            };
            let writing = beside(&scene, Scene::write);
            let putting = [beside(&scene, put(1)), beside(&scene, put(2))];
            if abandons {
                scene.queue.abandon();
            }
            join(putting);
            scene.queue.stop();
            join([writing]);
            assert_eq!(scene.queue.bytes(), 0);
        });
    }
}

/// What was put counts among what is stored from then on: in the queue, in the hands of who writes,
/// and in a segment.
pub fn what_is_put_is_never_out_of_sight() {
    many(15_000, || {
        let scene = Scene::new(8);
        let writing = beside(&scene, Scene::write);
        join([(1, 2), (3, 4)].map(|numbers| {
            beside(&scene, move |scene| {
                for number in <[u32; 2]>::from(numbers) {
                    scene.queue.offer(scene.item(number)).expect("room");
                    // In this order: what leaves the queue meanwhile is in a segment by then.
                    let queued = scene.queue.floor(NODE);
                    let written = locked(&scene.floors).lowest(NODE);
                    let lowest = queued.into_iter().chain(written).min();
                    assert!(lowest.is_some_and(|lowest| lowest <= u64::from(number)));
                }
            })
        }));
        scene.queue.stop();
        join([writing]);
        assert_eq!(scene.queue.floor(NODE), None);
        assert_eq!(locked(&scene.floors).lowest(NODE), Some(1));
    });
}
